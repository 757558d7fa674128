"""A run in a bucket: its files are objects, no path to it is mangled, and Orbax is told what holds there.

The bucket is a folder behind the interfaces that are used of Cloud Storage; no request leaves this machine. As in a
bucket without a hierarchy of folders, one is there while there are objects in it: none is made, and no empty one stays.
"""

import asyncio
import contextlib
import json
import types
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from cloud import be_gs, serve
from etils import epath
from etils.epath import backend
from test_checkpoints import CARD, assert_bit_equal
from test_checkpoints import train as train_toy
from toy import ONE, ROWS, mesh_of, start, step_on, text_groups

from crome_jax.cli import main, make_parser
from crome_jax.data.loading import batches
from crome_jax.data.packing import RowShape
from crome_jax.data.row_files import RowFiles, write_row_files
from crome_jax.errors import CromeError
from crome_jax.files import Lines, place, whole_output
from crome_jax.groups import to_json
from crome_jax.training import checkpoints
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.digests import DigestedObjects, find_damage, write_digests
from crome_jax.training.incidents import Incidents
from crome_jax.training.loop import fit
from crome_jax.training.metrics import MetricsLog, read_curve
from crome_jax.training.run_cards import read_card, write_card
from crome_jax.training.train import train
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.model_cards import render_model_card

ROOT = Path(__file__).parents[2]
RUN = "gs://bucket/runs/x"
EXPORT = ["export", "--checkpoint", RUN, "--out", "exported"]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that stands in for Cloud Storage, and is all that is left to look at."""
    be_gs(tmp_path / "cloud", monkeypatch)
    monkeypatch.chdir(tmp_path)  # Where a mangled path would leave a folder gs:.
    yield tmp_path / "cloud" / "bucket" / "runs" / "x"
    assert not (tmp_path / "gs:").exists()


def test_outputs_appear_there_whole_or_not_at_all(bucket):
    with whole_output(f"{RUN}/a/card.json") as partial:
        partial.write_text("{}")
        assert not bucket.exists()
    assert (bucket / "a" / "card.json").read_text() == place(f"{RUN}/a/card.json").read_text() == "{}"
    with (
        pytest.raises(CromeError, match=r"gs://bucket/runs/x/a/card.json: exists already"),
        whole_output(f"{RUN}/a/card.json"),
    ):
        pass
    with contextlib.suppress(ZeroDivisionError), whole_output(f"{RUN}/a/card.json", overwrite=True) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert (bucket / "a" / "card.json").read_text() == "{}"
    for content in ("old", "new"):
        with whole_output(f"{RUN}/folder", overwrite=True) as partial:
            (partial / "in").mkdir(parents=True)
            (partial / "in" / content).write_text(content)
    assert [path.name for path in (bucket / "folder" / "in").iterdir()] == ["new"]


def test_logs_and_cards_are_kept_there(bucket):
    run = place(RUN)
    write_card(run, CARD)
    write_card(run, CARD)
    assert read_card(RUN).config == CARD.config
    (run / "operative_config.gin").write_text("STEPS = 3")
    assert "STEPS = 3" in render_model_card(make_parser().parse_args(EXPORT).checkpoint, CARD, 4)
    for resumed_at, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log, incidents = MetricsLog(run, resumed_at), Incidents(run, resumed_at)
        for step in steps:
            log.write(step, {"loss": step / 2})
            incidents.add(step, "spike", step, 1.0)
        log.close()
    for name in ("metrics.jsonl", "incidents.jsonl"):
        lines = [json.loads(line) for line in (bucket / name).read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [line["loss"] for line in read_curve(run)] == [0.5, 1.0, 1.5, 2.0]
    lines = Lines(run / "other")
    lines.add("a")
    assert (bucket / "other").read_text() == "a\n"


def test_packed_rows_are_read_from_there(bucket):
    rows = write_row_files(place(RUN) / "rows", ROWS, lambda row: [str(row)], {})
    for found in (rows, RowFiles(place(RUN) / "rows")):
        np.testing.assert_array_equal(found.take([5, 2])["tokens"], ROWS.batch.tokens[[5, 2]])
        assert found.records(3) == ["3"]
        assert found.is_whole()
    assert sorted(path.suffix for path in (bucket / "rows").iterdir()) == [".json", ".npy", ".rows"]


def test_damage_there_is_found(bucket):
    folder = place(RUN) / "checkpoints" / "4"
    for name in ("state/d/0", "data/metadata", "_CHECKPOINT_METADATA"):
        (folder / name).write_text(name)
    write_digests(folder)
    assert find_damage(folder) is None
    (bucket / "checkpoints" / "4" / "state" / "d" / "0").write_text("other")
    assert find_damage(folder) == "state/d/0 has changed since it was written"
    (bucket / "checkpoints" / "4" / "data" / "metadata").unlink()
    assert find_damage(folder) == "data/metadata is missing"


def test_a_checkpoint_there_gets_its_digests_before_what_makes_it_one(bucket):
    folder = epath.Path(RUN) / "checkpoints" / "4"
    being_written = DigestedObjects(folder, folder)
    asyncio.run(being_written.create())
    (folder / "state").write_text("weights")
    assert being_written.get() == being_written.get_final() == folder
    asyncio.run(being_written.finalize())
    assert json.loads((bucket / "checkpoints" / "4" / "digests.json").read_text()).keys() == {"state"}
    assert (bucket / "checkpoints" / "4" / "commit_success.txt").exists()
    asyncio.run(DigestedObjects.validate_final(folder))


def test_orbax_is_told_the_place_as_it_is(bucket, monkeypatch):
    told = {}

    class Manager:
        def __init__(self, folder, options, item_handlers):
            told.update(folder=folder, options=options)

    monkeypatch.setattr(checkpoints, "_Manager", Manager)
    Checkpoints(RUN)
    assert str(told["folder"]) == f"{RUN}/checkpoints"
    assert isinstance(told["folder"], epath.Path)
    assert told["options"].temporary_path_class is DigestedObjects
    Checkpoints(Path("runs/x"))
    assert told["options"].temporary_path_class is checkpoints.DigestedPath
    assert issubclass(checkpoints.DigestedPath, ocp.path.atomicity.AtomicRenameTemporaryPath)


def test_only_what_was_left_unfinished_there_is_removed_and_by_one_process(bucket, monkeypatch):
    monkeypatch.setattr(checkpoints, "_Manager", lambda *_, **__: None)
    folder = epath.Path(RUN) / "checkpoints"
    whole = ["3/commit_success.txt", "3/state/d/0", "4/digests.json", "4/state/d/0", "notes/0"]  # 4 was copied there.
    for name in (*whole, "5/state/d/0"):
        (folder / name).write_text(name)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "is_first", lambda: False)
        Checkpoints(RUN)
    Checkpoints(RUN, read_only=True)
    assert (folder / "5/state/d/0").exists()
    Checkpoints(RUN)
    assert sorted(contents(bucket / "checkpoints")) == whole


def test_where_what_reads_buckets_is_not_installed_the_command_is_told(bucket, monkeypatch):
    def fail(name):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", fail)
    with pytest.raises(CromeError, match=rf"{RUN}: a bucket needs .* run ./launch/setup.sh gcs \(Please install gcsfs"):
        train(data="none.jsonl", out=RUN)


def test_a_run_goes_on_from_what_it_saved_there(bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    # Google's own client, which gcsfs brings along, is asked for this alone.
    plain = types.SimpleNamespace(hierarchical_namespace_enabled=False)
    monkeypatch.setattr("orbax.checkpoint._src.path.gcs_utils.get_bucket", lambda name: plain)
    whole = train_toy(tmp_path / "local", 6)
    with serve(tmp_path / "cloud") as (url, requests):
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
        train_toy(RUN, 3)
        epath.Path(f"{RUN}/checkpoints/5/state/d/0").write_text("of a killed save, at a step that is not saved again")
        assert_bit_equal(train_toy(RUN, 6), whole)
        assert sorted(path.name for path in (bucket / "checkpoints").iterdir()) == ["3", "6"]
        assert (bucket / "checkpoints" / "6" / "commit_success.txt").exists()
        (array,) = (bucket / "checkpoints" / "6" / "state" / "d").iterdir()
        array.write_bytes(array.read_bytes()[:-1] + b"x")
        damaged = contents(bucket / "checkpoints" / "6")
        assert_bit_equal(train_toy(RUN, 6), whole)
        (aside,) = (bucket / "damaged").iterdir()
        assert aside.name.startswith("6-")
        assert contents(aside) == damaged
    assert f"{RUN}/checkpoints/6: damaged (state/d/" in capsys.readouterr().err
    assert any(request.startswith("POST") for request in requests)  # Orbax wrote its arrays there.


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_beside_a_run_is_put_there(bucket, tmp_path, monkeypatch):
    base = load_backbone("tiny", 1)  # Reading its tokenizer takes seconds.
    monkeypatch.setattr("crome_jax.training.train.load_backbone", lambda *_, **__: base)
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    plain = types.SimpleNamespace(hierarchical_namespace_enabled=False)
    monkeypatch.setattr("orbax.checkpoint._src.path.gcs_utils.get_bucket", lambda name: plain)
    data = tmp_path / "cloud" / "bucket" / "toy.jsonl"
    data.parent.mkdir(parents=True)
    data.write_text("".join(to_json(group) + "\n" for group in text_groups(24)) + "{}\n")
    place(f"{RUN}/trace.request").write_text("1")
    with serve(tmp_path / "cloud") as (url, _):
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
        train(
            data="gs://bucket/toy.jsonl", out=RUN, backbone="tiny", trainable=1, row_shape=RowShape(96, 6, 6), steps=4,
            rows_per_step=2, log_every=1, checkpoint_every=2, mesh=lambda: mesh_of(*ONE), skip_bad=True,
            trace_steps=(3, 3),
        )  # fmt: skip
    (bad,) = (json.loads(line) for line in (bucket.parent / "x.bad.jsonl").read_text().splitlines())
    assert bad["record"] == 25
    records = (bucket / "trace").glob("*/plugins/profile/*/*.xplane.pb")
    assert {path.relative_to(bucket / "trace").parts[0] for path in records} == {"steps-1-1", "steps-3-3"}
    assert not (bucket / "trace.request").exists()
    assert [line["step"] for line in read_curve(place(RUN))] == [1, 2, 3, 4]


def test_what_was_logged_is_there_when_a_checkpoint_is(bucket, tmp_path):
    """In a bucket a log is written now and then; a run that is killed once it saved must not lose lines before that."""
    log, there = MetricsLog(place(RUN)), []

    class Saves:
        latest = None

        def save(self, state, iterator_state, measured=None, *, owed=False):
            there.append([line["step"] for line in read_curve(place(RUN))])

        def wait(self):
            pass

    mesh = mesh_of(*ONE)
    state, frozen = start(mesh)
    iterator = batches(ROWS, rows_per_step=8, seed=0)
    fit(
        state, frozen, step_on(), iterator, mesh, steps=4, log=log.write, log_every=1, checkpoints=Saves(),
        checkpoint_every=2, before_save=log.flush,
    )  # fmt: skip
    assert there == [[1, 2], [1, 2, 3, 4]]


@pytest.mark.slow
def test_a_run_there_is_trained_evaluated_and_scored_by(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    plain = types.SimpleNamespace(hierarchical_namespace_enabled=False)
    monkeypatch.setattr("orbax.checkpoint._src.path.gcs_utils.get_bucket", lambda name: plain)
    place("gs://bucket/toy.jsonl").parent.mkdir(parents=True, exist_ok=True)
    place("gs://bucket/toy.jsonl").write_text("".join(to_json(group) + "\n" for group in text_groups(20)))
    settings = {"DATA": "gs://bucket/toy.jsonl", "OUT": RUN, "STEPS": 2, "ROWS_PER_STEP": 8, "ROW_TOKENS": 128}
    files = [f"--gin_file={ROOT / 'gin' / name}" for name in ("runs/bradley_terry.gin", "models/tiny.gin")]
    with serve(tmp_path / "cloud") as (url, _):
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
        assert main(["train", *files, *(f"--gin.{name}={value!r}" for name, value in settings.items())]) == 0
        assert main(["evaluate", "--checkpoint", RUN, "--data", "toy=gs://bucket/toy.jsonl"]) == 0
        assert main(["score", "--checkpoint", RUN, "--data", "gs://bucket/toy.jsonl", "--out", "scored.jsonl"]) == 0
        assert main(["report", RUN, "--out", "gs://bucket/compared"]) == 0
    assert (bucket / "metrics.jsonl").read_text().count("\n") >= 1
    (method,) = json.loads((bucket / "evaluation" / "report.json").read_text())["methods"].values()
    preferring = sum(c.target != 0.5 for group in text_groups(20) for c in group.comparisons)
    assert method["splits"]["toy"]["comparisons"] == preferring
    assert len(Path("scored.jsonl").read_text().splitlines()) == sum(len(g.responses) for g in text_groups(20))
    assert (bucket.parents[1] / "compared" / "comparison.html").exists()
