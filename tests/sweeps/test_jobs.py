"""What tells jobs apart is what decides their result; two processes never work on one job at a time."""

import json
import threading

import pytest

from crome_jax.configuration import configure
from crome_jax.errors import CromeError
from crome_jax.sweeps import jobs as room
from crome_jax.sweeps.jobs import digest_files, prepare_job
from crome_jax.sweeps.plan import Job
from crome_jax.training.digests import DIGESTS_FILE, write_digests
from crome_jax.training.train import train
from crome_jax.weights.runs import MODEL_FILE

FILES = ["gin/runs/crome.gin"]


@pytest.fixture
def prepare(tmp_path):
    """Returns a function from the values of a job, and bindings beside them, to the job as prepared."""
    data = tmp_path / "data.jsonl"
    data.write_text("records\n")

    def prepare(values=None, *bindings, seed=0):
        given = [("DATA", repr(str(data))), ("OUT", f"'{tmp_path}/out'"), *bindings]
        return prepare_job(Job("a/b c", "a", values or {}, seed), train, FILES, given)

    return prepare


def test_the_fingerprint_is_of_what_decides(prepare, tmp_path):
    same = prepare().fingerprint
    assert prepare({"crome.neutral_weight": "1.0"}).fingerprint == same  # That is what the file says.
    assert prepare({}, ("train.log_every", "3"), ("make_mesh.fsdp", "1")).fingerprint == same
    # What another method would read is not operative; defaults are, whether they were bound or not.
    assert prepare({}, ("adamw.beta1", "0.9")).fingerprint == same
    others = [
        prepare({"crome.neutral_weight": "0.5"}),
        prepare({"crome.margin": "0.5"}),
        prepare({"STEPS": "7"}),
        prepare({"adamw.beta1": "0.8"}),
        prepare(seed=1),
    ]
    (tmp_path / "data.jsonl").write_text("other records\n")
    digest_files.cache_clear()
    others.append(prepare())
    assert len({same, *(one.fingerprint for one in others)}) == 1 + len(others)


def test_the_same_data_elsewhere_are_the_same_job(prepare, tmp_path):
    moved = tmp_path / "moved.jsonl"
    moved.write_text("records\n")
    assert prepare({"DATA": repr(str(moved))}).fingerprint == prepare().fingerprint


def test_mixed_data_are_the_contents_of_each_part_with_its_weight(prepare, tmp_path):
    for name, records in (("b", "more\n"), ("moved", "records\n"), ("changed", "others\n")):
        (tmp_path / f"{name}.jsonl").write_text(records)

    def mixed(**weights):
        parts = {str(tmp_path / f"{name}.jsonl"): weight for name, weight in weights.items()}
        (tmp_path / "mixed.gin").write_text(f"MIXED = {parts}\nDATA = %MIXED\n")
        by_macro = prepare_job(Job("x", "x", {}, 0), train, [*FILES, str(tmp_path / "mixed.gin")], [])
        assert by_macro.fingerprint == prepare({"DATA": repr(parts)}).fingerprint
        return by_macro.fingerprint

    same = mixed(data=3, b=0.5)
    assert mixed(moved=3.0, b=0.5) == same
    others = {mixed(data=2, b=0.5), mixed(data=3, changed=0.5), mixed(data=3), prepare().fingerprint}
    assert len({same, *others}) == 5


def test_what_a_run_starts_from_and_is_measured_on_decides_by_its_contents(prepare, tmp_path):
    held_out, folder, run = tmp_path / "held_out.jsonl", tmp_path / "folder", tmp_path / "run"
    for path in (held_out, folder / "model.safetensors", run / MODEL_FILE, run / "checkpoints" / "3" / "state" / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first")

    def fingerprints():
        for cached in (digest_files, room._digest_backbone):
            cached.cache_clear()
        (run / "checkpoints" / "3" / DIGESTS_FILE).unlink(missing_ok=True)
        write_digests(run / "checkpoints" / "3")
        of_files = [prepare({}, ("BACKBONE", repr(str(path)))).fingerprint for path in (folder, run)]
        return [prepare({}, ("train.validation", repr(str(held_out)))).fingerprint, *of_files]

    first = fingerprints()
    assert len({prepare().fingerprint, *first}) == 4
    (run / "metrics.jsonl").write_text("no part of what is learned")
    assert fingerprints() == first
    changed = (held_out, folder / "model.safetensors", run / "checkpoints" / "3" / "state" / "x")
    for number, path in enumerate(changed):
        path.write_text("second")
        now = fingerprints()
        assert [a != b for a, b in zip(first, now, strict=True)] == [n <= number for n in range(3)]
    with pytest.raises(CromeError, match="job a/b c: nowhere: neither a file or folder nor a known backbone"):
        prepare({}, ("BACKBONE", "'nowhere'"))


def test_a_folder_is_of_the_job_and_its_fingerprint(prepare, tmp_path):
    one = prepare()
    assert one.folder == tmp_path / "out" / "jobs" / f"a_b_c-{one.fingerprint[:12]}"
    assert one.runs == {"crome": one.folder / "run"}
    assert not one.is_trained()
    one.folder.mkdir(parents=True)
    for text in ("", "[]", '{"fingerprint": "another"}'):
        (one.folder / room.DONE).write_text(text)
        assert not one.is_trained()


def test_what_was_done_under_another_name_is_found(prepare, tmp_path):
    jobs, short = tmp_path / "out" / "jobs", prepare().fingerprint[:12]
    begun, done = jobs / f"begun-{short}", jobs / f"done-{short}"
    begun.mkdir(parents=True)
    assert prepare().folder == begun
    prepare().folder.with_name(f"a_b_c-{short}").mkdir()
    assert prepare().folder == jobs / f"a_b_c-{short}"  # Of two that were begun its own.
    done.mkdir()
    (done / room.DONE).write_text(json.dumps({"fingerprint": prepare().fingerprint}))
    assert prepare().is_trained()
    assert prepare().runs == {"crome": done / "run"}
    assert not prepare(seed=1).is_trained()


def test_a_digest_is_of_names_and_contents(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "x").write_text("1")
    assert digest_files(str(tmp_path / "a")) == digest_files(str(tmp_path / "b"))
    digest_files.cache_clear()
    (tmp_path / "b" / "inner" / "x").rename(tmp_path / "b" / "inner" / "y")
    assert digest_files(str(tmp_path / "a")) != digest_files(str(tmp_path / "b"))
    with pytest.raises(CromeError, match=r"nowhere: does not exist; give data that does"):
        digest_files(str(tmp_path / "nowhere"))


def test_hidden_files_of_a_backbone_do_not_count(tmp_path):
    for name, stamp in (("a", "yesterday"), ("b", "today")):
        hidden = tmp_path / name / ".cache" / "huggingface"
        hidden.mkdir(parents=True)
        (hidden / "weights.metadata").write_text(stamp)
        (tmp_path / name / "weights").write_text("1 2 3")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert digest_files(a, hidden=False) == digest_files(b, hidden=False)
    assert digest_files(a) != digest_files(b)


def test_a_job_that_another_process_has_is_waited_for(tmp_path, capsys):
    let_go, order = threading.Event(), []

    def hold():
        with room._alone(tmp_path / "job"):
            order.append("first")
            assert let_go.wait(10)
            order.append("first is done")

    other = threading.Thread(target=hold)
    other.start()
    while not order:
        pass
    threading.Timer(0.2, let_go.set).start()
    with room._alone(tmp_path / "job"):
        order.append("second")
    other.join()
    assert order == ["first", "first is done", "second"]
    assert "another process works on it; waiting" in capsys.readouterr().err


def test_a_study_is_a_job_of_several_runs(tmp_path):
    from crome_jax.training.study import study

    for name in ("data.jsonl", "groups.jsonl"):
        (tmp_path / name).write_text("records\n")
    bindings = [
        ("DATA", f"'{tmp_path}/data.jsonl'"),
        ("GROUPS", f"'{tmp_path}/groups.jsonl'"),
        ("OUT", f"'{tmp_path}/out'"),
    ]
    one = prepare_job(Job("x", "x", {}, 0), study, ["gin/runs/quickstart.gin"], bindings)
    assert one.runs == {name: one.folder / "run" / name for name in ("bradley_terry", "crome")}
    # What is measured decides nothing.
    measured = {"study.further_tests": "{'edited': 'nowhere'}", "study.test_splits": "('unseen', 'absent')"}
    further = prepare_job(Job("x", "x", measured, 0), study, ["gin/runs/quickstart.gin"], bindings)
    assert further.fingerprint == one.fingerprint
    twice = {"study.methods": "[@crome/Method(), @crome/Method()]"}
    with pytest.raises(CromeError, match="job x: two methods are called 'crome'"):
        prepare_job(Job("x", "x", twice, 0), study, ["gin/runs/quickstart.gin"], bindings)
    assert configure(study, ["gin/runs/quickstart.gin"], bindings).keywords["out"] == f"{tmp_path}/out"
