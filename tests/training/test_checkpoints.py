"""What was saved comes back to the bit, or the error says what is wrong with it."""

import contextlib
import dataclasses
import errno
import functools
import itertools
import json
import resource
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils
from toy import CFG, ONE, ROWS, AsksAt, mesh_of, start, step_on

from crome_jax.data.loading import batches, put
from crome_jax.errors import CromeError, Preempted
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.digests import find_damage
from crome_jax.training.loop import fit
from crome_jax.training.run_cards import ModelCard, read_card, write_card
from crome_jax.training.validation import rank
from crome_jax.weights.runs import MODEL_FILE

CARD = ModelCard(
    backbone="tiny",
    backbone_fingerprint="1f",
    tokenizer_fingerprint="2f",
    decoder=dataclasses.asdict(CFG),
    trainable=1,
    row_tokens=48,
    row_responses=8,
    row_comparisons=8,
    data_fingerprint="3f",
    method="crome",
    dtype="float32",
    settings={"seed": "0"},
)


def train(run, steps: int, *, sizes=ONE, trainable=1, rank=None, **options):
    """Train up to `steps` as a new process would: from the newest checkpoint, if there is one."""
    mesh = mesh_of(*sizes)
    state, frozen = start(mesh, trainable)
    iterator = batches(ROWS, rows_per_step=8, seed=0)
    checkpoints = Checkpoints(run, rank=rank)
    restored = checkpoints.restore_newest(state)
    if restored is not None:
        state, iterator_state = restored
        iterator.set_state(iterator_state)
    state, _ = fit(
        state, frozen, step_on(sizes, trainable), iterator, mesh, steps=steps, log_every=1,
        checkpoints=checkpoints, checkpoint_every=3, **options,
    )  # fmt: skip
    checkpoints.close()
    return jax.device_get(state)


def assert_bit_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the folder of a run of six steps, with checkpoints at steps three and six, and its last state."""
    run = tmp_path_factory.mktemp("saved")
    return run, train(run, 6)


@pytest.fixture
def damaged(saved, tmp_path):
    """Return a copy of the run, to be damaged."""
    run = tmp_path / "run"
    shutil.copytree(saved[0], run)
    return run


def test_what_is_restored_is_what_was_saved(saved):
    run, state = saved
    checkpoints = Checkpoints(run)
    assert checkpoints.latest == 6
    like, _ = start(mesh_of(*ONE))
    restored, data = checkpoints.restore(like)
    assert_bit_equal(restored, state)
    assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, like)
    assert data == {"next_index": 6}
    trained, step = checkpoints.restore_trained(like.trained)
    assert step == 6
    assert_bit_equal(trained, state.trained)


def test_resumed_equals_uninterrupted(saved, tmp_path):
    curves: list[list] = [[], []]
    note = lambda curve: lambda at, values: curve.append((at, values["loss"], values["grad_norm"]))  # noqa: E731
    train(tmp_path / "a", 6, log=note(curves[0]))
    train(tmp_path / "b", 3, log=note(curves[1]))
    assert_bit_equal(train(tmp_path / "b", 6, log=note(curves[1])), saved[1])
    assert curves[0] == curves[1]


def test_what_was_saved_on_many_devices_is_restored_on_one_and_on_others(tmp_path):
    state, _ = start(mesh_of(2, 2, 2), "all")
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, {"next_index": 4})
    checkpoints.close()
    for sizes in (ONE, (1, 4, 2)):
        like, _ = start(mesh_of(*sizes), "all")
        restored, data = Checkpoints(tmp_path).restore(like)
        assert_bit_equal(jax.device_get(restored), jax.device_get(state))
        assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, like)
        assert data == {"next_index": 4}


@pytest.mark.slow
def test_a_run_on_many_devices_resumes_there_and_on_one(tmp_path):
    sizes = (2, 2, 2)
    straight = train(tmp_path / "a", 5, sizes=sizes, trainable="all")
    train(tmp_path / "b", 2, sizes=sizes, trainable="all")
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    assert_bit_equal(train(tmp_path / "b", 5, sizes=sizes, trainable="all"), straight)
    alone = train(tmp_path / "c", 5, trainable="all")
    for a, b in zip(jax.tree.leaves(alone.trained), jax.tree.leaves(straight.trained), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_each_checkpoint_is_of_its_own_step_though_the_next_reuses_its_memory(tmp_path):
    mesh = mesh_of(*ONE)
    state, frozen = start(mesh)
    checkpoints = Checkpoints(tmp_path, keep=8)
    given = put(next(batches(ROWS, rows_per_step=8, seed=0)), mesh)
    history = []
    for number in range(6):
        state, _ = step_on()(state, frozen, given)
        history.append(jax.tree.map(np.copy, jax.device_get(state)))
        checkpoints.save(state, {"next_index": number})
    checkpoints.close()
    while history:
        restored, data = Checkpoints(tmp_path).restore(start(mesh)[0])
        assert_bit_equal(restored, history.pop())
        assert data == {"next_index": len(history)}
        shutil.rmtree(tmp_path / "checkpoints" / str(len(history) + 1))


def test_whoever_saves_does_not_ask_whether_to_end(tmp_path, monkeypatch):
    """JAX keeps the last number that anybody asked with, and stops at the next: the loop's askings are no steps."""
    asked = []
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", asked.append)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(start(mesh_of(*ONE))[0], {})
    checkpoints.close()
    assert checkpoints.latest == 0
    assert asked == []


def test_only_the_newest_stay(tmp_path):
    train(tmp_path, 10)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "9"]


@pytest.mark.parametrize(
    ("by", "best", "stay"), [("accuracy", 2, ["2", "4", "5"]), ("loss", 1, ["1", "4", "5"]), (None, 5, ["4", "5"])]
)
def test_the_best_by_a_metric_stays_beside_the_newest(tmp_path, by, best, stay):
    trained, _ = start(mesh_of(*ONE), 1)
    values = [(0.5, 0.1), (0.9, 0.2), (0.7, 0.4), (0.9 - 1e-9, 0.3)]
    ranked = functools.partial(rank, by) if by else None
    for life in ((1, 2, 3), (4, 5)):  # What was best is known to a run that goes on.
        checkpoints = Checkpoints(tmp_path, keep=2, rank=ranked)
        for step in life:
            accuracy, loss = values[step - 1] if step <= len(values) else (None, None)
            measured = None if accuracy is None else {"accuracy": accuracy, "loss": loss}
            number = jax.device_put(np.asarray(step, np.int32), trained.step.sharding)
            checkpoints.save(trained.replace(step=number), {"next_index": step}, measured)
            checkpoints.wait()
        found, told = checkpoints.best, checkpoints.measured(2)
        checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == stay
    if by:
        assert found == best
        assert Checkpoints(tmp_path).latest == 5
        _, step = Checkpoints(tmp_path, read_only=True).restore_trained(trained.trained, best)
        assert step == best
    if by == "accuracy":
        assert told == {"accuracy": 0.9, "loss": 0.2}
        with pytest.raises(CromeError, match="holds no step 3; it holds 2, 4, 5"):
            Checkpoints(tmp_path, read_only=True).restore_trained(trained.trained, 3)


# Before, amid and after the first measuring; the last.
@pytest.mark.parametrize(
    ("best", "asked"),
    [
        pytest.param(best, asked, marks=() if (best, asked) in ((3, 4), (6, 5), (7, 12)) else pytest.mark.slow)
        for best in (3, 6, 7)
        for asked in (3, 4, 5, 11, 12)
    ],
)
def test_a_run_that_was_asked_to_end_where_it_is_measured_keeps_the_same_best(tmp_path, best, asked):
    ranked = functools.partial(rank, "accuracy")

    def run(folder, **options):
        """Train, and return the curve, the best step, and the steps that stay."""
        lines, place = [], tmp_path / folder

        def life(**options):
            # What is measured depends on the parameters, of which each step has others.
            measure = lambda trained, give_up: None if give_up() else {"accuracy": by_head[head_of(trained)]}  # noqa: E731
            train(place, 7, rank=ranked, validate=measure, log=lambda *line: lines.append(line), **options)

        with contextlib.suppress(Preempted):
            life(**options)
        if options:
            life()
        measured = [(at, values["validation/accuracy"]) for at, values in lines if "validation/accuracy" in values]
        return measured, Checkpoints(place, rank=ranked).best

    head_of = lambda trained: np.asarray(trained["head"]).tobytes()  # noqa: E731
    heads = {}
    for step in (3, 6, 7):
        heads[step] = head_of(train(tmp_path / "heads", step).trained)
    by_head = {heads[step]: 0.9 if step == best else step / 100 for step in heads}
    undisturbed = run("undisturbed")
    assert undisturbed[1] == best
    assert run("disturbed", preempted=AsksAt(asked)) == undisturbed
    assert Checkpoints(tmp_path / "disturbed").is_whole(best)


def test_what_was_measured_on_other_data_does_not_rank(tmp_path):
    state, _ = start(mesh_of(*ONE), 1)
    lives = (("a", {1: 0.9, 2: 0.8}), ("b", {3: None, 4: 0.5, 5: 0.4, 6: 0.3}))
    told = {}
    for data, values in lives:
        checkpoints = Checkpoints(tmp_path, keep=2, rank=functools.partial(rank, "accuracy"), measured_on=data)
        told[data] = checkpoints.best, checkpoints.incomparable
        for step, value in values.items():
            number = jax.device_put(np.asarray(step, np.int32), state.step.sharding)
            measured = None if value is None else {"accuracy": value}
            checkpoints.save(state.replace(step=number), {"next_index": step}, measured)
            checkpoints.wait()
    assert told == {"a": (None, []), "b": (None, [1, 2])}
    assert (checkpoints.best, checkpoints.measured(4)) == (4, {"accuracy": 0.5})
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4", "5", "6"]


def test_what_is_measured_late_is_kept_whole_with_its_step(tmp_path):
    state, _ = start(mesh_of(*ONE), 1)
    checkpoints = Checkpoints(tmp_path, rank=functools.partial(rank, "loss"))
    checkpoints.save(state, {"next_index": 0}, owed=True)
    checkpoints.wait()
    assert checkpoints.owes(0)
    checkpoints.add_measured(0, {"loss": 0.5})
    assert not checkpoints.owes(0)
    assert (checkpoints.best, checkpoints.measured(0)) == (0, {"loss": 0.5})
    assert checkpoints.is_whole(0)
    assert checkpoints.restore(state)[1] == {"next_index": 0}
    flip(tmp_path / "checkpoints" / "0" / "metrics" / "metrics")
    with pytest.raises(CromeError, match=r"damaged \(metrics/metrics has changed since it was written"):
        Checkpoints(tmp_path).restore(state)


def test_a_folder_without_checkpoints_is_an_error(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest is None
    state, _ = start(mesh_of(*ONE))
    for restore in (lambda: checkpoints.restore(state), lambda: checkpoints.restore_trained(state.trained)):
        with pytest.raises(CromeError, match=r"checkpoints: holds no whole checkpoint; train first"):
            restore()


def delete(path):
    path.unlink()


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("reader", ["restore", "restore_trained", "open_trained"])
def test_no_reader_takes_a_flipped_byte_for_a_weight(damaged, reader):
    like, _ = start(mesh_of(*ONE))
    flip(next(path for path in sorted((damaged / "checkpoints" / "6").rglob("d/*")) if path.is_file()))
    with pytest.raises(CromeError, match="has changed since it was written"):
        getattr(Checkpoints(damaged), reader)(like if reader == "restore" else like.trained)


@pytest.mark.parametrize("harm", [delete, halve, flip])
def test_a_half_written_checkpoint_is_named_or_still_whole(saved, damaged, harm):
    like, _ = start(mesh_of(*ONE))
    newest = damaged / "checkpoints" / "6"
    told: dict[str, str] = {}
    for path in sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file()):
        whole = (newest / path).read_bytes()
        harm(newest / path)
        try:
            restored, data = Checkpoints(damaged).restore(like)
        except CromeError as e:
            told[str(path)] = str(e)
        else:  # Not every file is read; what is restored must be right all the same.
            assert_bit_equal(restored, saved[1])
            assert data == {"next_index": 6}
        (newest / path).write_bytes(whole)
    for message in told.values():
        assert message.startswith(f"{newest}: damaged (")
        assert message.endswith("restore it from a copy, or delete it to go on from step 3, which is whole")
        assert len(message) < 500
    assert {"data/metadata", "state/_METADATA", "state/manifest.ocdbt"} <= told.keys()
    assert any(path.startswith("state/ocdbt.process_0/d/") for path in told)
    found = "is missing" if harm is delete else "has changed since it was written"
    for path in told.keys() - {"digests.json"}:
        assert f"damaged ({path} {found})" in told[path]


def test_a_damaged_checkpoint_sends_nobody_to_another_damaged_one(saved, damaged):
    for step in (3, 6):
        flip(damaged / "checkpoints" / str(step) / "state" / "manifest.ocdbt")
    trained = start(mesh_of(*ONE))[0].trained
    with pytest.raises(CromeError, match=r"restore it from a copy, or train again in another folder$"):
        Checkpoints(damaged, read_only=True).restore_trained(trained)


def test_without_its_digests_a_checkpoint_is_not_taken_for_whole(damaged):
    flip(next(path for path in sorted((damaged / "checkpoints" / "6").rglob("d/*")) if path.is_file()))
    delete(damaged / "checkpoints" / "6" / "digests.json")
    with pytest.raises(CromeError, match=r"checkpoints/6: damaged \(digests.json is missing\); .* go on from step 3"):
        Checkpoints(damaged).restore(start(mesh_of(*ONE))[0])


@pytest.mark.parametrize("place", ["digests", "orbax"])
def test_what_cannot_be_read_now_is_not_taken_for_damaged(damaged, monkeypatch, place):
    like, _ = start(mesh_of(*ONE))
    checkpoints = Checkpoints(damaged)

    def fail(*_, **__):
        raise OSError(errno.ESTALE, "Stale file handle")

    if place == "digests":
        monkeypatch.setattr("crome_jax.training.digests.sha256_of", fail)
    else:
        monkeypatch.setattr(checkpoints._manager, "restore", fail)
    with pytest.raises(CromeError, match=r"checkpoints/6: cannot be read now \(.*Stale file handle\); nothing was cha"):
        checkpoints.restore_newest(like)
    assert not (damaged / "damaged").exists()
    monkeypatch.undo()
    assert int(checkpoints.restore_newest(like)[0].step) == 6


def test_a_run_that_only_looks_goes_round_what_is_damaged_and_leaves_it_there(damaged, capsys):
    flip(damaged / "checkpoints" / "6" / "state" / "_METADATA")
    checkpoints = Checkpoints(damaged, read_only=True)
    assert int(checkpoints.restore_newest(start(mesh_of(*ONE))[0])[0].step) == 3
    assert "the checkpoint before it is taken" in capsys.readouterr().err
    assert sorted(path.name for path in (damaged / "checkpoints").iterdir()) == ["3", "6"]
    assert (checkpoints.is_whole(3), checkpoints.is_whole(6)) == (True, False)


def test_processes_share_the_files_of_a_checkpoint(damaged):
    folder = damaged / "checkpoints" / "6"
    flip(folder / "state" / "_METADATA")
    said = [find_damage(folder, part, 3) for part in range(3)]
    assert sorted(said, key=str) == [None, None, "state/_METADATA has changed since it was written"]


def test_reading_changes_nothing(tmp_path):
    with pytest.raises(CromeError, match="holds no whole checkpoint"):
        Checkpoints(tmp_path, read_only=True)
    assert not list(tmp_path.iterdir())
    (tmp_path / "checkpoints").touch()
    with pytest.raises(CromeError, match="checkpoints: is no folder; move it away"):
        Checkpoints(tmp_path)


@pytest.mark.parametrize("harm", [delete, halve])
def test_where_the_newest_is_damaged_the_one_before_it_is_taken(saved, damaged, harm, capsys):
    harm(damaged / "checkpoints" / "6" / "state" / "_METADATA")
    assert_bit_equal(train(damaged, 6), saved[1])
    said = capsys.readouterr().err
    assert f"{damaged}/checkpoints/6: damaged (" in said
    assert "the checkpoint before it is taken" in said
    (aside,) = (damaged / "damaged").iterdir()
    assert aside.name.startswith("6-")
    assert Checkpoints(damaged).latest == 6


@pytest.mark.parametrize("harm", [delete, halve, flip])
@pytest.mark.parametrize("step", [1, 2])
def test_what_was_measured_is_damaged_as_all_else_is(tmp_path, capsys, step, harm):
    trained, _ = start(mesh_of(*ONE), 1)
    checkpoints = Checkpoints(tmp_path, keep=2)
    for number in (1, 2):
        at = jax.device_put(np.asarray(number, np.int32), trained.step.sharding)
        checkpoints.save(trained.replace(step=at), {"next_index": number}, {"loss": 0.25})
    checkpoints.close()
    harm(tmp_path / "checkpoints" / str(step) / "metrics" / "metrics")
    restored, _ = Checkpoints(tmp_path, read_only=True).restore_newest(trained)
    assert int(restored.step) == (2 if step == 1 else 1)  # Of an earlier step nothing is read.
    restored, _ = Checkpoints(tmp_path).restore_newest(trained)
    assert int(restored.step) == (2 if step == 1 else 1)
    assert ("checkpoints/2: damaged (metrics/metrics" in capsys.readouterr().err) == (step == 2)


def test_where_every_checkpoint_is_damaged_the_run_does_not_start_over(damaged):
    for step in ("3", "6"):
        delete(damaged / "checkpoints" / step / "state" / "_METADATA")
    with pytest.raises(CromeError, match="checkpoints/3: damaged"):
        train(damaged, 6)


def test_what_a_killed_save_left_is_passed_over_and_removed_by_whoever_saves(saved, damaged):
    left = [damaged / "checkpoints" / f"{step}.orbax-checkpoint-tmp" for step in (8, 9)]  # Step 8 is not saved again.
    for folder in left:
        shutil.copytree(damaged / "checkpoints" / "6", folder)
        delete(folder / "state" / "manifest.ocdbt")
    assert Checkpoints(damaged, read_only=True).latest == 6
    assert all(folder.is_dir() for folder in left)
    after = train(damaged, 9)
    assert Checkpoints(damaged).latest == 9
    assert_bit_equal(Checkpoints(damaged).restore(start(mesh_of(*ONE))[0])[0], after)
    assert not list(damaged.rglob("*tmp*"))


def test_a_checkpoint_of_another_architecture_is_told_by_parameter_and_shapes(saved):
    like, _ = start(mesh_of(*ONE))
    narrow = like.replace(trained={**like.trained, "head": jax.device_put(np.zeros(16, np.float32))})
    deeper, _ = start(mesh_of(*ONE), "all")
    shallower, _ = start(mesh_of(*ONE), "head")
    for other, message in (
        (narrow, r"6: parameter head is \(32,\) there and \(16,\) in this model"),
        (deeper, r"6: parameter embed is absent there and \(64, 32\) in this model"),
        (shallower, r"6: parameter final_norm is \(32,\) there and absent in this model"),
    ):
        checkpoints = Checkpoints(saved[0])
        with pytest.raises(CromeError, match=message):
            checkpoints.restore(other)
        with pytest.raises(CromeError, match=message):
            checkpoints.restore_trained(other.trained)


def test_what_orbax_fails_at_beside_its_error_is_not_told():
    code = (
        "import logging, crome_jax.training.checkpoints\n"
        "class Fails:\n"
        "    def __init__(self, what): self.what = what\n"
        "    def __del__(self): raise RuntimeError(self.what)\n"
        "Fails('Event loop is closed'); Fails('another')\n"
        "logging.getLogger('asyncio').error('never retrieved: /lib/orbax/serialization.py')\n"
        "logging.getLogger('asyncio').error('never retrieved: mine.py')\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert "Event loop is closed" not in said
    assert "orbax" not in said
    assert "RuntimeError: another" in said
    assert "never retrieved: mine.py" in said


@pytest.mark.parametrize("steps", [8, 12])  # the last save fails, or one that others follow
def test_a_full_disk_leaves_the_last_checkpoint_whole(saved, damaged, steps, capfd):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(CromeError, match=r"checkpoints: cannot be written \(.*make room and run the same command"):
            train(damaged, steps)
        assert "Traceback" not in capfd.readouterr().err
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    checkpoints = Checkpoints(damaged)
    assert checkpoints.latest == 6
    assert_bit_equal(checkpoints.restore(start(mesh_of(*ONE))[0])[0], saved[1])
    assert train(damaged, 9).step == 9


def test_a_card_comes_back_as_it_was_written(tmp_path):
    write_card(tmp_path, CARD)
    write_card(tmp_path, CARD)
    assert read_card(tmp_path) == dataclasses.replace(CARD, decoder=json.loads(json.dumps(CARD.decoder)))
    assert read_card(tmp_path).config == CFG


def test_another_run_s_folder_is_not_written_into(tmp_path):
    write_card(tmp_path, CARD)
    other = dataclasses.replace(CARD, data_fingerprint="4f", trainable="head")
    with pytest.raises(CromeError, match=r"holds another run \(trainable was 1, is 'head'; data_fingerprint was '3f'"):
        write_card(tmp_path, other)
    assert read_card(tmp_path).data_fingerprint == "3f"


@pytest.mark.parametrize("settings", [{"seed": "1"}, {}, {"seed": "0", "adamw.beta1": "0.8"}])
def test_a_run_under_other_settings_is_another_run(tmp_path, settings):
    write_card(tmp_path, CARD)
    with pytest.raises(CromeError, match=r"holds another run \((seed|adamw\.beta1) was "):
        write_card(tmp_path, dataclasses.replace(CARD, settings=settings))


def test_a_run_goes_on_in_other_micro_batches_whatever_its_card_says_of_them(tmp_path):
    write_card(tmp_path, dataclasses.replace(CARD, settings=CARD.settings | {"train.micro_batches": "1"}))
    write_card(tmp_path, dataclasses.replace(CARD, settings=CARD.settings | {"train.micro_batches": "2"}))
    write_card(tmp_path, CARD)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "3", '{"backbone": "tiny"}', "\xff", '{"strange": 1}', "[" * 100_000]
)
def test_a_damaged_card_is_named(tmp_path, content):
    (tmp_path / MODEL_FILE).write_text(content, encoding="latin-1")
    with pytest.raises(CromeError, match=r"model\.json: damaged"):
        read_card(tmp_path)


def test_every_field_of_a_card_is_checked(tmp_path):
    write_card(tmp_path, CARD)
    whole = json.loads((tmp_path / MODEL_FILE).read_text())
    for name, wrong in itertools.product(whole, [None, [], {"x": 1}]):
        (tmp_path / MODEL_FILE).write_text(json.dumps({**whole, name: wrong}))
        with pytest.raises(CromeError, match=rf"model\.json: damaged \(.*{name}"):
            read_card(tmp_path)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("trainable", "hed"), ("trainable", 0), ("dtype", "floot"), ("head", "hydra"), ("row_tokens", -5)],
)
def test_a_card_says_only_what_a_run_can_be(tmp_path, name, wrong):
    write_card(tmp_path, CARD)
    path = tmp_path / MODEL_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), name: wrong}))
    with pytest.raises(CromeError, match=rf"model\.json: damaged \(.*{name}.*{wrong}"):
        read_card(tmp_path)


def test_a_card_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / MODEL_FILE).mkdir()
    with pytest.raises(CromeError, match=r"model\.json: cannot be read \(Is a directory\)"):
        read_card(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CromeError, match=r"file: no model\.json"):
        read_card(tmp_path / "file")
    with pytest.raises(CromeError, match="File name too long"):
        read_card(tmp_path / ("n" * 300))


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(CromeError, match=r"no model\.json; give the folder \(OUT\) of a `crome train` run"):
        read_card(tmp_path)
