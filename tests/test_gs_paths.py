"""gs:// wherever a path is given: flags do not mangle it, data is read from there, and what is made is put there.

The bucket is fsspec's file system in memory, behind the interface that etils.epath uses of Cloud Storage's.
"""

import contextlib
import gzip
import io
import json
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from toy import ROWS

from crome_jax import files
from crome_jax.cli import main, make_parser
from crome_jax.data.quarantine import Quarantine, list_beside
from crome_jax.data.readers import check_shards, read_groups
from crome_jax.data.row_files import RowFiles, write_row_files
from crome_jax.data.writers import write_groups
from crome_jax.errors import CromeError, DataError
from crome_jax.files import Lines, check_not_read, copy_bytes, place
from crome_jax.sweeps.jobs import digest_files
from crome_jax.training.digests import write_digests
from crome_jax.training.trace import Trace
from crome_jax.verbs.evaluate import data_set
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.runs import fingerprint_run

GOOD = [{"id": f"g{n}", "prompt": f"Why {n}?", "chosen": "good", "rejected": f"bad {n}"} for n in range(5)]
LINES = b"".join(json.dumps(record).encode() + b"\n" for record in GOOD)


class Objects(MemoryFileSystem):
    """Objects in memory, of one test; each writing is counted."""

    cachable = False
    store: dict = {}  # noqa: RUF012 (set for each test)
    pseudo_dirs: list = []  # noqa: RUF012
    written: list[str] = []  # noqa: RUF012
    fetched: list[tuple[str, int, int]] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("gs://", "memory://", 1))

    def cat_ranges(self, paths, starts, ends, **keywords):
        self.fetched.extend(zip(paths, starts, ends, strict=True))
        return super().cat_ranges(paths, starts, ends, **keywords)

    def _open(self, path, mode="rb", **keywords):
        if "w" in mode:
            self.written.append(path)
        return super()._open(path, mode, **keywords)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    for name, empty in (("store", {}), ("pseudo_dirs", [""]), ("written", []), ("fetched", [])):
        monkeypatch.setattr(Objects, name, empty)
    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", lambda name: {"gcs": Objects}[name]())
    monkeypatch.setitem(_registry, "gs", Objects)
    monkeypatch.chdir(tmp_path)
    yield "gs://bucket/x"
    assert not (tmp_path / "gs:").exists()


def put(path: str, content: bytes) -> None:
    place(path).parent.mkdir(parents=True, exist_ok=True)
    place(path).write_bytes(content)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("evaluate --checkpoint P --data d --out P", "checkpoint"),
        ("evaluate --checkpoint r --data d --out P", "out"),
        ("score --checkpoint P", "checkpoint"),
        ("diagnose --model P --data d", "model"),
        ("diagnose --model m --data d --out P", "out"),
        ("best_of_n --model P --candidates c --judge exact --out o", "model"),
        ("best_of_n --model m --candidates P --judge exact --out o", "candidates"),
        ("best_of_n --model m --candidates c --judge exact --out P", "out"),
        ("report P --out o", "runs"),
        ("report r --out P", "out"),
        ("export --checkpoint P --out o", "checkpoint"),
        ("export --checkpoint r --out P", "out"),
        ("testbed --out P", "out"),
        ("augment --data P --out o", "data"),
        ("augment --data d --out P", "out"),
    ],
)
def test_a_flag_keeps_both_slashes(command, name):
    given = vars(make_parser().parse_args(command.replace("P", "gs://bucket/x").split()))[name]
    assert str(given[0] if isinstance(given, list) else given) == "gs://bucket/x"


@pytest.mark.parametrize("command", ["score --checkpoint r --out P", "evaluate --checkpoint r --data d --manual_dir P"])
def test_what_must_be_on_this_machine_is_refused_elsewhere(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command.replace("P", "gs://bucket/x").split())
    assert ended.value.code == 2
    assert "gs://bucket/x is in a bucket; give a place on this machine" in capsys.readouterr().err


def test_a_data_set_there_may_have_a_name_and_a_split(bucket):
    for text, found in {
        "gs://bucket/x.jsonl": ("x", None),
        "mine=gs://bucket/x.jsonl": ("mine", None),
        "gs://bucket/x@test": ("test", "test"),
        "mine=gs://bucket/x@test": ("mine", "test"),
    }.items():
        data = data_set(text)
        assert (data.name, data.split) == found
        assert str(data.path) == ("gs://bucket/x.jsonl" if found[1] is None else "gs://bucket/x")


def test_groups_are_read_from_there_in_every_format(bucket, tmp_path):
    put(f"{bucket}/prefs.jsonl", LINES)
    put(f"{bucket}/packed/prefs.jsonl.gz", gzip.compress(LINES))
    pq.write_table(pa.Table.from_pylist(GOOD), tmp_path / "prefs.parquet")
    put(f"{bucket}/parquet/prefs.parquet", (tmp_path / "prefs.parquet").read_bytes())
    groups = list(read_groups(f"{bucket}/prefs.jsonl"))
    assert [group.id for group in groups] == [record["id"] for record in GOOD]
    for name in ("packed/prefs.jsonl.gz", "packed", "parquet/prefs.parquet", "parquet"):
        assert list(read_groups(f"{bucket}/{name}")) == groups
    assert write_groups(f"{bucket}/set", groups, groups_per_shard=2) == len(groups)
    assert list(read_groups(f"{bucket}/set")) == groups
    assert write_groups(f"{bucket}/groups.jsonl", groups) == len(groups)
    assert list(read_groups(f"{bucket}/groups.jsonl")) == groups
    with pytest.raises(CromeError, match=f"{bucket}/set: exists already"):
        write_groups(f"{bucket}/set", groups)
    with pytest.raises(DataError, match=f"{bucket}/none.jsonl: does not exist"):
        list(read_groups(f"{bucket}/none.jsonl"))


def test_missing_shards_there_are_told_before_anything_is_read(bucket):
    write_groups(f"{bucket}/set", read_groups_of(GOOD), groups_per_shard=2)
    check_shards(f"{bucket}/set")
    shard = sorted(place(f"{bucket}/set").glob("*.array_record*"))[1]
    shard.unlink()
    with pytest.raises(DataError, match=f"{bucket}/set: lacks 1 of its 3 shards: {shard.name}"):
        check_shards(f"{bucket}/set")
    put(f"{bucket}/plain/part-00001-of-00002.jsonl", LINES)
    with pytest.raises(DataError, match=r"lacks 1 of its 2 shards: part-00000-of-00002.jsonl"):
        check_shards(f"{bucket}/plain")


def read_groups_of(records):
    path = Path("records.jsonl")
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_groups(path)


def test_augmentation_goes_from_bucket_to_bucket_with_its_bad_records_and_card(bucket):
    put(f"{bucket}/prefs.jsonl", LINES + b"no json\n")
    command = ["augment", "--data", f"{bucket}/prefs.jsonl", "--out", f"{bucket}/groups", "--skip-bad"]
    for more in ([], ["--overwrite"]):
        assert main([*command, "--neutrals-per-group", "0", *more]) == 0
        assert len(list(read_groups(f"{bucket}/groups"))) == len(GOOD)
        (bad,) = place(f"{bucket}/groups.bad.jsonl").read_text().splitlines()
        assert json.loads(bad)["raw"] == "no json"
        assert json.loads(place(f"{bucket}/groups.card.json").read_text())
    assert main([*command]) == 2
    assert main(["augment", "--data", f"{bucket}/prefs.jsonl", "--out", f"{bucket}/prefs.jsonl", "--overwrite"]) == 2
    assert place(f"{bucket}/prefs.jsonl").read_bytes().startswith(LINES)
    assert main(["augment", "--data", f"{bucket}/prefs.jsonl", "--out", "groups", "--beam", "direct"]) == 2


def test_what_is_read_there_is_not_replaced(bucket):
    put(f"{bucket}/data/a.jsonl", LINES)
    for out, source in (("data", "data"), ("data", "data/a.jsonl"), ("data/a.jsonl", "data")):
        with pytest.raises(CromeError, match="is read, so it is not replaced"):
            check_not_read(place(f"{bucket}/{out}"), [f"{bucket}/{source}"])
    check_not_read(place(f"{bucket}/other"), [f"{bucket}/data"])


def test_a_list_of_bad_records_appears_there_when_it_is_whole(bucket):
    run = place(f"{bucket}/run")
    with Quarantine(list_beside(run), overwrite=True, inputs=[f"{bucket}/data"]) as quarantine:
        quarantine.add(DataError("is bad", file="f", record=1), b"\xff")
        assert not place(f"{bucket}/run.bad.jsonl").exists()
    assert json.loads(place(f"{bucket}/run.bad.jsonl").read_text())["record"] == 1
    with Quarantine(list_beside(run), overwrite=True) as quarantine:
        quarantine.add(DataError("is worse", file="f", record=2), b"")
    assert json.loads(place(f"{bucket}/run.bad.jsonl").read_text())["record"] == 2
    put(f"{bucket}/other.bad.jsonl", b"{}\n")
    with pytest.raises(CromeError, match="is no list of bad records"):
        Quarantine(place(f"{bucket}/other.bad.jsonl"), overwrite=True).check_place()


def test_a_log_there_is_not_written_anew_with_every_line(bucket, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(files, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    log = Lines(place(f"{bucket}/log"), every=30.0)
    for line in range(100):
        log.add(str(line))
        now[0] += 1.0
    assert len(Objects.written) == 4  # At 0, 30, 60 and 90 seconds.
    assert place(f"{bucket}/log").read_text().split()[-1] == "90"
    log.flush()
    log.flush()
    log.close()
    assert len(Objects.written) == 5
    log = Lines(place(f"{bucket}/log"))
    log.add("100")
    log.close()
    assert place(f"{bucket}/log").read_text().split() == [str(line) for line in range(101)]


def test_steps_are_traced_into_it(bucket, monkeypatch):
    @contextlib.contextmanager
    def trace(folder):
        yield
        Path(folder, "plugins").mkdir(parents=True)
        Path(folder, "plugins", "host.xplane.pb").write_bytes(b"events")

    monkeypatch.setattr("jax.profiler.trace", trace)
    run = place(f"{bucket}/run")
    with Trace(run, (2, 3), every=4) as traced:
        for step in range(1, 8):
            if step == 4:
                put(f"{bucket}/run/trace.request", b"2\n")
            traced.look(step)
            with traced.step(step):
                pass
            traced.end(step, ())
            assert (run / "trace" / "steps-2-3").exists() == (step > 2)
    assert [path.name for path in sorted((run / "trace").iterdir())] == ["steps-2-3", "steps-5-6"]
    assert (run / "trace" / "steps-5-6" / "plugins" / "host.xplane.pb").read_bytes() == b"events"


def test_a_model_there_that_is_no_run_is_refused_with_what_to_do(bucket, capsys):
    put(f"{bucket}/model/config.json", b"{}")
    put(f"{bucket}/model.gguf", b"GGUF")
    for name in ("model", "model.gguf"):
        with pytest.raises(CromeError, match=rf"{bucket}/{name}: is in a bucket.* copy the model to this machine"):
            load_backbone(f"{bucket}/{name}")
    put(f"{bucket}/prefs.jsonl", LINES)
    diagnose = ["diagnose", "--model", f"{bucket}/model", "--data", f"{bucket}/prefs.jsonl", "--out", "o"]
    assert main(diagnose) == 2
    assert f"{bucket}/model: is in a bucket" in capsys.readouterr().err
    with pytest.raises(CromeError, match="neither a file or folder nor a known backbone"):
        load_backbone(f"{bucket}/none")


def test_without_what_reads_buckets_the_command_that_installs_it_is_told(monkeypatch, capsys):
    def fail(name):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", fail)
    assert main(["report", "gs://bucket/x", "--out", "o"]) == 2
    assert "run ./launch/setup.sh gcs" in capsys.readouterr().err


def test_files_are_copied_a_piece_at_a_time(bucket, tmp_path):
    (tmp_path / "large").write_bytes(bytes(range(256)) * 200_000)
    copy_bytes(tmp_path / "large", place(f"{bucket}/large"))
    copy_bytes(place(f"{bucket}/large"), tmp_path / "in" / "back")
    assert (tmp_path / "in" / "back").read_bytes() == (tmp_path / "large").read_bytes()


def test_of_packed_rows_there_a_host_fetches_its_share_and_no_more(bucket, monkeypatch):
    monkeypatch.setattr("crome_jax.data.row_files.ROWS_OF_A_FILE", 7)
    folder = place(f"{bucket}/rows")
    write_row_files(folder, ROWS, lambda row: [f"record-{row}"], {"packing": {}})
    objects = sorted(folder.glob("*.rows"))
    assert len(objects) == -(-len(ROWS) // 7) > 2
    Objects.fetched.clear()
    rows, share = RowFiles(folder), [9, 2, 15]
    assert Objects.fetched == []
    for name, values in rows.take(share).items():
        np.testing.assert_array_equal(values, getattr(ROWS.batch, name)[share])
        assert values.dtype == getattr(ROWS.batch, name).dtype
    assert [(Path(path).name, stop - start) for path, start, stop in Objects.fetched] == [
        (objects[number // 7].name, length(objects[number // 7], number % 7)) for number in share
    ]
    assert rows.rows_read == 3
    assert rows.records(2) == ["record-2"]
    assert rows.is_whole()


def length(path, number):
    ends = np.load(io.BytesIO(path.with_suffix(".offsets.npy").read_bytes()))
    return ends[number + 1] - ends[number]


def test_a_damaged_row_there_is_named_and_one_cut_short_or_missing_too(bucket):
    folder = place(f"{bucket}/rows")
    write_row_files(folder, ROWS, lambda row: [], {})
    (path,) = folder.glob("*.rows")
    whole = path.read_bytes()
    start = length(path, 0)
    path.write_bytes(whole[:start] + bytes(len(whole) - start))
    rows = RowFiles(folder)
    rows.take([0])
    with pytest.raises(CromeError, match=rf"{path}: row 2 is damaged"):
        rows.take([0, 1])
    path.write_bytes(whole[:-1])
    with pytest.raises(CromeError, match=rf"{path}: has {len(whole) - 1:,} bytes, not {len(whole):,}"):
        RowFiles(folder)
    path.unlink()
    with pytest.raises(CromeError, match=rf"{path}: is missing, of 1 files"):
        RowFiles(folder)


def test_files_of_a_bucket_have_the_digest_of_the_same_ones_here(bucket, tmp_path):
    for name, text in (("a.jsonl", "1"), ("inner/b.jsonl", "2")):
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).write_text(text)
        copy_bytes(tmp_path / "here" / name, place(f"{bucket}/here/{name}"))
    assert digest_files(f"{bucket}/here") == digest_files(str(tmp_path / "here"))
    assert digest_files(f"{bucket}/here/a.jsonl") == digest_files(str(tmp_path / "here" / "a.jsonl"))


def test_a_run_in_a_bucket_has_the_fingerprint_of_the_same_one_here(bucket, tmp_path):
    for name, text in (("model.json", "card"), ("checkpoints/3/state/head", "1"), ("checkpoints/3/state/d/0", "2")):
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).write_text(text)
        copy_bytes(tmp_path / "here" / name, place(f"{bucket}/here/{name}"))
    for run in (tmp_path / "here", place(f"{bucket}/here")):
        write_digests(run / "checkpoints" / "3")
    assert fingerprint_run(place(f"{bucket}/here"), 3) == fingerprint_run(tmp_path / "here", 3)
