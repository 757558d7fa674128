"""Bad input, verb by verb: the tables say what was given and what comes out. One message, and nothing lost.

Every case is a real command, run in this process on the tiny backbone. Whatever is wrong, the status is 2, the last
line of stderr names the place and the fix, there is no traceback, and what is on disk is what was there before.
"""

import errno
import functools
import gzip
import io
import json
import os
import resource
import shutil
import sys
import tempfile

import pyarrow
import pyarrow.parquet
import pytest
from test_cli_models import TINY, run

from crome_jax import files
from crome_jax.data.datasets.causal_testbed import CausalTestbedConfig, generate_groups
from crome_jax.groups import to_json
from crome_jax.training import bench
from crome_jax.training import train as training

GOOD = [to_json(group) for group in generate_groups(CausalTestbedConfig(name="small", train=8), "train")]
STUDY = (
    "--gin_file=gin/runs/quickstart.gin", *TINY[:1], "--gin.ROW_TOKENS=256", "--gin.study.layers=None",
    "--gin.study.trainable='head'", "--gin.study.steps=1", "--gin.study.search_steps=1",
    "--gin.study.learning_rates=(1e-3,)", "--gin.study.rows_per_step=8",
    "--gin.study.methods=[@bradley_terry/Method()]", "--gin.study.test_splits=('test',)",
)  # fmt: skip
TRAINING = ("train", "study")
MEND = "mend or drop the record, or pass --skip-bad"


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Read backbone and run once for all cases: what is damaged is elsewhere."""
    load = training.load_run
    with pytest.MonkeyPatch.context() as patch:
        backbone = functools.cache(training.load_backbone)
        patch.setattr(training, "load_backbone", backbone)
        patch.setattr(bench, "load_backbone", backbone)
        whole = functools.cache(load)
        patch.setattr(
            training, "load_run", lambda run, **options: whole(run) if run.name == "whole" else load(run, **options)
        )
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with good data, as one file and as the splits of a study, and a run trained on it."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "good.jsonl").write_text("\n".join(GOOD) + "\n")
    (folder / "splits").mkdir()
    for split in ("validation", "test"):
        (folder / "splits" / f"{split}.jsonl").write_text("\n".join(GOOD[:2]))
    assert run(*commands("train", folder, folder / "good.jsonl", folder / "whole")) == 0
    return folder


def commands(verb, place, data, out, checkpoint=None) -> list:
    """Return a verb's command on some data."""
    checkpoint = ("--checkpoint", checkpoint or place / "whole")
    return {
        "augment": ["augment", "--data", data, "--out", out],
        "train": [
            "train", "--gin_file=gin/runs/bradley_terry.gin", *TINY, f"--gin.DATA='{data}'", f"--gin.OUT='{out}'",
        ],
        "evaluate": ["evaluate", *checkpoint, "--data", f"x={data}", "--out", out],
        "score": ["score", *checkpoint, "--data", data, "--out", out],
        "export": ["export", *checkpoint, "--out", out],
        "testbed": ["testbed", "--out", out, "--train", "2", "--validation", "2", "--test", "4"],
        "study": [
            "study", *STUDY, f"--gin.DATA='{place / 'splits'}'", f"--gin.GROUPS='{data}'", f"--gin.OUT='{out}'",
        ],
    }[verb]  # fmt: skip


def refused(capfd, *command) -> str:
    """Run a command that must fail, and return its one line without the program's name."""
    capfd.readouterr()
    assert run(*command) == 2
    err = capfd.readouterr().err
    assert "Traceback" not in err
    line = err.splitlines()[-1]
    assert line.startswith("crome: error: ")
    return line.removeprefix("crome: error: ")


def contents(folder) -> dict[str, int | None]:
    """Return what is below a folder: every name, and the size of what is a file."""
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() else None
        for path in folder.rglob("*")
    }  # fmt: skip


# --- records ----------------------------------------------------------------------------------------------------------


def pair(**fields) -> str:
    return json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"} | fields)


def compared(**fields) -> str:
    comparison = {"left": 0, "right": 1} | fields
    return json.dumps({"prompt": "a", "responses": ["b", "c"], "comparisons": [comparison]})


RECORDS = {
    "not JSON": ("{nope", "is not JSON (Expecting property name enclosed in double quotes at column 2)", MEND),
    "null": ("null", "is NoneType, not an object with fields", MEND),
    "a list": ("[1]", "is list, not an object with fields", "write one record a line, as jq -c '.[]' does"),
    "a number": ("3", "is int, not an object with fields", MEND),
    "missing field": ('{"prompt": "a", "chosen": "b"}', "'rejected' is missing", MEND),
    "mistyped field": (pair(chosen=3), "'chosen' is int, not text", MEND),
    "mistyped prompt": (pair(prompt={"a": 1}), "'prompt[0].role' is missing", MEND),
    "empty chosen": (pair(chosen=" "), "'chosen' is empty", MEND),
    "empty prompt": (pair(prompt=""), "'prompt' is empty", MEND),
    "identical": (pair(chosen="c"), "'rejected' is identical to 'chosen'", MEND),
    "NUL": (pair(chosen="b\0"), "'chosen' holds a NUL character", MEND),
    "NUL in the prompt": (pair(prompt="a\0"), "'prompt[0].content' holds a NUL character", MEND),
    "raw NUL": ("\0\0\0", "is not JSON (Expecting value at column 1)", MEND),
    "lone surrogate": (pair(rejected="c\ud800"), "'rejected' holds a lone surrogate (U+D800)", MEND),
    "surrogate in a name": (pair(**{"\ud800": 1}), "'metadata' holds a lone surrogate (U+D800)", MEND),
    "10 MB": (pair(chosen="b " * 5_000_000), "is 10,000,047 bytes long, over the limit of 4,194,304", "shorten"),
    "deep nesting": ('{"prompt": ' + "[" * 100_000, "is nested too deep", MEND),
    "NaN": ('{"prompt": "a", "chosen": "b", "margin": NaN}', "holds NaN, which is no JSON number", MEND),
    "1e999": ('{"prompt": "a", "weight": 1e999}', "holds 1e999, which is too large a number", MEND),
    "weight of 1e300": (pair(weight=1e300), "'comparisons[0].weight' is 1e+300, outside [0, 1e+09]", MEND),
    "margin of 1e39": (pair(margin=1e39), "'comparisons[0].margin' is 1e+39, outside [0, 1e+09]", MEND),
    "negative weight": (pair(weight=-1), "'comparisons[0].weight' is -1.0, outside [0, 1e+09]", MEND),
    "weight of 400 digits": (pair(weight=10**400), "holds a number that is too large", MEND),
    "weight as text": (pair(weight="1"), "'weight' is str, not a finite number", MEND),
    "5000 digits": ('{"prompt": ' + "1" * 5000 + "}", "holds a number that cannot be read", MEND),
    "a field twice": ('{"prompt": "a", "chosen": "b", "chosen": "z"}', "'chosen' is there twice", MEND),
    "latin-1": (b'{"prompt": "\xe9"}', "is not UTF-8 (byte 0xe9 at 12)", "convert it to UTF-8"),
    "no such response": (compared(left=9), "'comparisons[0].left' is 9, no index of a response", MEND),
    "with itself": (compared(left=1), "'comparisons[0]' prefers a response to its equal", MEND),
    "impossible target": (compared(target=2), "'comparisons[0].target' is 2.0, outside [0, 1]", MEND),
}  # fmt: skip
"""What a record may be: the record, what is said of it, and the fix."""
FEW = ("not JSON", "latin-1", "impossible target")


def as_bytes(record) -> bytes:
    return record if isinstance(record, bytes) else record.encode(errors="surrogatepass")


# One reader serves all verbs: one of them is given every fault, the others a few, and all of them with the slow tests.
@pytest.mark.parametrize(
    ("verb", "fault"),
    [
        pytest.param(verb, fault, marks=() if verb == "augment" or fault in FEW else pytest.mark.slow)
        for verb in ("augment", "train", "evaluate", "score", "study")
        for fault in RECORDS
    ],
)
def test_a_bad_record_is_named_with_its_fix(place, tmp_path, capfd, verb, fault):
    record, problem, fix = RECORDS[fault]
    data = tmp_path / "data.jsonl"
    data.write_bytes("\n".join(GOOD[:4]).encode() + b"\n\n" + as_bytes(record) + b"\n")
    line = refused(capfd, *commands(verb, place, data, tmp_path / "out"))
    assert line.startswith(f"record 6 of {data}: {problem}")
    assert f"; {fix}" in line
    assert os.listdir(tmp_path) == ["data.jsonl"]


@pytest.mark.parametrize("verb", ["augment", "train", "evaluate", "score", "study"])
def test_bad_records_are_set_aside_counted_and_the_good_ones_kept(place, tmp_path, capfd, verb):
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    bad = [as_bytes(record) for record, *_ in RECORDS.values()]
    data.write_bytes(b"\n".join([line for b in bad for line in (b, b"")] + [line.encode() for line in GOOD]))
    assert run(*commands(verb, place, data, out), "--skip-bad") == 0
    said = capfd.readouterr().err
    assert f"{len(bad)} bad records set aside" in said or f"{len(bad)} records set aside" in said
    aside = [json.loads(line) for line in (tmp_path / "out.bad.jsonl").read_text().splitlines()]
    assert [line["record"] for line in aside] == list(range(1, 2 * len(bad), 2))
    for line, record, (_, problem, _) in zip(aside, bad, RECORDS.values(), strict=True):
        assert problem in line["error"]
        assert record.startswith(line["raw"].encode(errors="surrogateescape"))
        assert len(line["raw"]) == len(record) or len(line["raw"]) == 4096
    if verb == "evaluate":
        assert json.loads((out / "report.json").read_text())["facts"]["data"][0]["groups"] == len(GOOD)
        # Again: the report is replaced, and its list with it.
        assert run(*commands(verb, place, data, out), "--skip-bad") == 0
    if verb == "score":
        assert len(out.read_text().splitlines()) == 2 * len(GOOD)


# --- files ------------------------------------------------------------------------------------------------------------


def parquet(*records) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), out)
    return out.getvalue()


ZIPPED = gzip.compress("\n".join(GOOD).encode())
AGAIN = "get the file again, or pass --skip-bad"

FILES = {
    "empty": ("data.jsonl", b"", ": is empty; check how it was made"),
    "blank": ("data.jsonl", b"\n\n", ": holds no record"),
    "empty gzip": ("data.jsonl.gz", gzip.compress(b""), ": holds no record"),
    "gzip cut short": ("data.jsonl.gz", ZIPPED[:-20], f": is cut short: its gzip stream does not end; {AGAIN}"),
    "gzip of another sum": ("data.jsonl.gz", ZIPPED[:-8] + bytes(8), f": is damaged (CRC check failed {{}}); {AGAIN}"),
    "no gzip": ("data.jsonl.gz", b"{}", ": is not gzip, whatever its name says; rename or compress it"),
    "UTF-16": ("data.jsonl", "\n".join(GOOD).encode("utf-16"), "is not UTF-8 (byte 0xff at 0); convert it to UTF-8"),
    "a JSON array": ("data.json", json.dumps([1, 2], indent=1).encode(), "; write one record a line, as jq -c"),
    "Parquet cut short": ("data.parquet", parquet({"prompt": "a"})[:-9], f"is no whole Parquet file ({{}}); {AGAIN}"),
    "Parquet of no bytes": ("data.parquet", b"", ": is empty; check how it was made"),
    "Parquet of no rows": ("data.parquet", parquet(), ": holds no record"),
    "not there": ("data.jsonl", None, ": does not exist; check the path"),
    "a name too long": ("n" * 300, None, ": cannot be read (File name too long); check the path and its permissions"),
    "an empty folder": ("data", os.mkdir, ": holds nothing that can be read; name a TFDS folder, or one with .jsonl"),
    "a link to itself": ("data", lambda path: path.symlink_to(path), ": cannot be read (Too many levels of symbolic"),
}  # fmt: skip
"""What the data may be: its name, what makes it, what is said."""


@pytest.mark.parametrize("fault", FILES)
@pytest.mark.parametrize("verb", ["augment", "train", "evaluate", "score", "study"])
def test_a_file_that_cannot_be_read_is_named_with_its_fix(place, tmp_path, capfd, verb, fault):
    name, content, said = FILES[fault]
    data = tmp_path / name
    if isinstance(content, bytes):
        data.write_bytes(content)
    elif content is not None:
        content(data)
    before = os.listdir(tmp_path)
    for flags in ([], ["--skip-bad"]):
        if flags and fault in ("gzip cut short", "gzip of another sum"):
            continue  # What comes before the damage can be used, as the next test says.
        line = refused(capfd, *commands(verb, place, data, tmp_path / "out"), *flags)
        assert str(data) in line
        for part in said.split("{}"):
            assert part in line
        assert os.listdir(tmp_path) == before


@pytest.mark.parametrize("damage", [ZIPPED[:-8], ZIPPED[:-8] + bytes(8), ZIPPED + b"junk"])
def test_what_can_be_read_of_a_damaged_file_is_kept(place, tmp_path, capfd, damage):
    data, out = tmp_path / "data.jsonl.gz", tmp_path / "out.jsonl"
    data.write_bytes(damage)
    # The last line has no end of its own: where the stream stops short of it, that line is not whole.
    assert run(*commands("augment", place, data, out), "--skip-bad") == 0
    assert len(out.read_text().splitlines()) >= len(GOOD) - 1
    (aside,) = map(json.loads, (tmp_path / "out.jsonl.bad.jsonl").read_text().splitlines())
    assert aside["error"].startswith(f"{data}: is ")


@pytest.mark.parametrize("content", ["\ufeff" + "\n".join(GOOD), "\r\n".join(GOOD), "\n\n".join(GOOD)])
def test_harmless_habits_of_editors_are_no_fault(place, tmp_path, content):
    (tmp_path / "data.jsonl").write_bytes(content.encode())
    assert run(*commands("augment", place, tmp_path / "data.jsonl", tmp_path / "out.jsonl")) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(GOOD)


@pytest.mark.parametrize("verb", ["train", "evaluate", "score", "study"])
def test_a_prompt_longer_than_the_row_is_named_by_file_and_record(place, tmp_path, capfd, verb):
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join([*GOOD[:2], pair(prompt="word " * 400)]))
    line = refused(capfd, *commands(verb, place, data, tmp_path / "out"))
    assert line.startswith(f"record 3 of {data}: 'prompt' takes 43")
    assert "raise the row's tokens (--row-tokens, or --gin.ROW_TOKENS in training), shorten the prompt" in line
    assert os.listdir(tmp_path) == ["data.jsonl"]
    command = [*commands(verb, place, data, tmp_path / "out"), *([] if verb in TRAINING else ["--row-tokens", 512])]
    assert run(*(str(part).replace("ROW_TOKENS=256", "ROW_TOKENS=512") for part in command)) == 0


@pytest.fixture
def unscored(monkeypatch):
    """Where this stands, nothing may be scored."""

    def score(*_, **__):
        raise AssertionError("something was scored")

    monkeypatch.setattr("crome_jax.evaluation.scoring.score_packed", score)


@pytest.mark.usefixtures("unscored")
def test_a_prompt_too_long_in_later_data_is_found_before_anything_is_scored(place, tmp_path, capfd):
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join([*GOOD[:2], pair(prompt="word " * 400)]))
    command = ["evaluate", "--checkpoint", place / "whole", "--out", tmp_path / "out", "--data", place / "good.jsonl"]
    line = refused(capfd, *command, f"later={data}")
    assert line.startswith(f"record 3 of {data}: 'prompt' takes 43")
    data.write_text(pair(prompt="word " * 400))
    line = refused(capfd, *command, f"later={data}", "--skip-bad")
    assert line == "later: no prompt leaves room in a row of 256 tokens; raise --row-tokens, or leave it out"


@pytest.mark.usefixtures("unscored")
def test_a_prompt_too_long_for_a_later_model_is_found_before_anything_is_scored(place, tmp_path, capfd):
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join([pair(), pair(prompt="word " * 50)]))
    small = shutil.copytree(place / "whole", tmp_path / "small")
    card = json.loads((small / "model.json").read_text())
    (small / "model.json").write_text(json.dumps(card | {"row_tokens": 80}))
    models = ["--checkpoint", place / "whole", small]
    line = refused(capfd, "evaluate", *models, "--data", data, "--out", tmp_path / "out")
    assert line.startswith(f"record 2 of {data}: 'prompt' takes 8")
    assert "; a row has 80 and its responses need 32" in line


@pytest.mark.parametrize(
    ("record", "said"), [("{nope", "is not JSON"), (pair(prompt="word " * 400), "'prompt' takes 43")]
)
def test_bad_records_to_validate_on_are_named_or_set_aside_as_others(place, tmp_path, capfd, record, said):
    data, out = tmp_path / "held_out.jsonl", tmp_path / "out"
    data.write_text("\n".join([*GOOD[:2], record]))
    command = [*commands("train", place, place / "good.jsonl", out), f"--gin.train.validation='{data}'"]
    assert refused(capfd, *command).startswith(f"record 3 of {data}: {said}")
    assert os.listdir(tmp_path) == ["held_out.jsonl"]
    assert run(*command, "--skip-bad") == 0
    assert f"1 records set aside in {out}.bad.jsonl" in capfd.readouterr().err
    (aside,) = map(json.loads, (tmp_path / "out.bad.jsonl").read_text().splitlines())
    assert (aside["file"], aside["record"]) == (str(data), 3)
    assert "validation/accuracy" in (out / "metrics.jsonl").read_text()


@pytest.mark.parametrize(("content", "said"), [(b"", "check how it was made"), (b"{\n3\n", "all 2 are bad, the first")])
def test_nothing_good_on_standard_input_is_said(place, tmp_path, capfd, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    line = refused(capfd, "score", "--checkpoint", place / "whole", "--skip-bad")
    assert line.startswith("<stdin>: holds no record that can be scored")
    assert said in line
    assert not os.listdir(tmp_path)


def test_a_record_of_standard_input_is_called_by_its_line(place, capfd, monkeypatch):
    lines = ["", '{"prompt": "a", "response": "b"}', "", json.dumps({"prompt": "word " * 400, "response": "b"})]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    line = refused(capfd, "score", "--checkpoint", place / "whole")
    assert line.startswith("record 4 of <stdin>: 'prompt' takes")


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_a_closed_stream_is_said(place, capfd, monkeypatch, stream):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(sys, stream, None)
    assert f"<{stream}>: is closed" in refused(capfd, "score", "--checkpoint", place / "whole")


def test_a_full_standard_output_is_said_and_the_file_is_whole(place, tmp_path, capfd, monkeypatch):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", Full())
    line = refused(capfd, *commands("augment", place, place / "good.jsonl", tmp_path / "out.jsonl"))
    assert line == "<stdout>: cannot be written (No space left on device); free some space or write elsewhere"
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(GOOD)


# --- outputs ----------------------------------------------------------------------------------------------------------

WRITERS = ["testbed", "augment", "train", "evaluate", "score", "export", "study"]


@pytest.mark.parametrize("verb", WRITERS)
def test_an_output_below_a_file_is_refused(place, tmp_path, capfd, verb):
    (tmp_path / "file").write_text("text")
    line = refused(capfd, *commands(verb, place, place / "good.jsonl", tmp_path / "file" / "out"))
    assert line.startswith(f"{tmp_path / 'file' / 'out'}")
    assert "cannot be written (" in line
    assert "a part of the path is a file; write elsewhere" in line
    assert contents(tmp_path) == {"file": 4}


INTO_FOLDERS = ["train", "evaluate", "study"]
"""Those that put files into a folder which may be there already; the others replace it whole, and only if told to."""


@pytest.mark.parametrize("verb", INTO_FOLDERS)
@pytest.mark.usefixtures("unscored")
def test_a_file_in_the_place_of_an_output_folder_is_refused(place, tmp_path, capfd, verb):
    (tmp_path / "out").write_text("text")
    line = refused(capfd, *commands(verb, place, place / "good.jsonl", tmp_path / "out"))
    said = "cannot be written (Not a directory); a part of the path is a file; write elsewhere"
    assert line == f"{tmp_path / 'out'}: {said}"
    assert contents(tmp_path) == {"out": 4}


@pytest.mark.parametrize("verb", INTO_FOLDERS)
@pytest.mark.usefixtures("unscored")
def test_an_output_folder_without_permission_is_refused(place, tmp_path, capfd, monkeypatch, verb):
    out, access = tmp_path / "out", os.access
    out.mkdir()
    # Root, as whom tests may run, is allowed everything.
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != str(out) and access(path, mode))
    line = refused(capfd, *commands(verb, place, place / "good.jsonl", out))
    assert line == f"{out}: cannot be written (Permission denied); check the permissions or write elsewhere"
    assert os.listdir(tmp_path) == ["out"]
    assert not os.listdir(out)


@pytest.mark.parametrize("verb", WRITERS)
def test_a_full_disk_leaves_no_half_output(place, tmp_path, capfd, verb):
    out = tmp_path / ("out.jsonl" if verb == "score" else "out")
    command = commands(verb, place, place / "good.jsonl", out)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))  # As a full disk does, it ends a write halfway.
    try:
        line = refused(capfd, *command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    # The first that a study writes is the frozen layers' output.
    assert line.startswith(tempfile.gettempdir() if verb == "study" else str(out))
    assert "cannot be written (" in line
    assert ".partial" not in line
    # What was scored is kept for the next start, hidden beside the output.
    left = {name: size for name, size in contents(tmp_path).items() if not name.startswith(".out.scores/")}
    assert not [name for name in left if name.endswith((".json", ".html", ".jsonl")) and left[name]]
    assert not [name for name in left if "partial" in name]
    assert run(*command) == 0


@pytest.mark.parametrize("name", ["out", "out.jsonl"])
def test_a_card_is_never_beside_other_data_than_its_own(place, tmp_path, capfd, monkeypatch, name):
    command = commands("augment", place, place / "good.jsonl", tmp_path / name)
    replace = os.replace

    def fail(source, target):
        if target == tmp_path / name and source.name == "finished":  # The last that is done to the data.
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    def refuse(*flags):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            patch.setattr(files, "_exchange", lambda *_: False)
            assert "cannot be written (Input/output error)" in refused(capfd, *command, *flags)

    refuse()
    assert os.listdir(tmp_path) == []
    assert run(*command) == 0
    cards = [tmp_path / f"{name}.card.{suffix}" for suffix in ("json", "html")]
    before = [card.read_text() for card in cards]
    refuse("--overwrite", "--align-per-pair", "0")
    assert [card.read_text() for card in cards] == before
    assert run(*command, "--overwrite", "--align-per-pair", "0") == 0
    assert [card.read_text() == text for card, text in zip(cards, before, strict=True)] == [False, False]


@pytest.mark.parametrize("verb", ["augment", "score"])
def test_an_input_is_never_replaced(place, tmp_path, capfd, verb):
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(GOOD))
    (tmp_path / "link.jsonl").symlink_to(data)
    for name in ("data.jsonl", "link.jsonl"):
        line = refused(capfd, *commands(verb, place, data, tmp_path / name), "--overwrite")
        assert line == f"{tmp_path / name}: is read, so it is not replaced; choose another output"
    assert "is read" in refused(capfd, *commands(verb, place, tmp_path, data), "--overwrite")
    assert data.read_text() == "\n".join(GOOD)


def test_a_run_is_not_replaced_by_what_is_made_of_it(place, tmp_path, capfd):
    own = shutil.copytree(place / "whole", tmp_path / "run")
    (own / "config.json").write_text("{}")  # So that it looks like a model.
    assert "is read" in refused(capfd, *commands("export", place, None, own, own), "--overwrite")
    assert (own / "model.json").is_file()


def test_a_study_replaces_runs_only(place, tmp_path, capfd):
    letters = tmp_path / "out" / "bradley_terry"
    letters.mkdir(parents=True)
    (letters / "letters").write_text("years of work")
    line = refused(capfd, *commands("study", place, place / "good.jsonl", tmp_path / "out"))
    assert line == f"{letters}: is something else than a run, so it is not replaced; give another study.out"
    assert (letters / "letters").read_text() == "years of work"


# --- runs -------------------------------------------------------------------------------------------------------------


def damage(run_folder, path, harm) -> None:
    """Harm one file of a run; `*` in its name stands for a name that Orbax drew."""
    (target, *_) = sorted(run_folder.glob(path))
    if harm == "delete":
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    elif harm == "halve":
        target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    elif harm == "flip":
        content = bytearray(target.read_bytes())
        content[len(content) // 2] ^= 1
        target.write_bytes(content)
    elif harm == "folder":
        target.unlink()
        target.mkdir()
    else:
        target.write_bytes(harm)


STATE = "checkpoints/2/state"
RUNS = {
    "no run": ("model.json", "delete", ": no model.json; give the folder (OUT) of a `crome train` run"),
    "half a model.json": ("model.json", "halve", "model.json: damaged ("),
    "model.json nested deep": ("model.json", b"[" * 100_000, "model.json: damaged ("),
    "model.json a folder": ("model.json", "folder", "model.json: cannot be read (Is a directory)"),
    "no checkpoints": ("checkpoints", "delete", "checkpoints: holds no whole checkpoint; train first"),
    "no checkpoint": ("checkpoints/2", "delete", "checkpoints: holds no whole checkpoint; train first"),
    "no state": (STATE, "delete", "checkpoints/2: damaged (state/"),
    "an array file missing": (f"{STATE}/ocdbt.process_0/d/*", "delete", " is missing); restore it from a copy"),
    "an array file cut": (f"{STATE}/ocdbt.process_0/d/*", "halve", " has changed since it was written); restore"),
    "an array file flipped": (f"{STATE}/d/*", "flip", " has changed since it was written); restore it from a copy"),
    "the iterator flipped": ("checkpoints/2/data/metadata", "flip", "(data/metadata has changed since it was written)"),
    "digests cut": ("checkpoints/2/digests.json", "halve", "damaged (digests.json has changed since it was"),
}
"""What may be wrong with a run: the file, what was done to it, what is said."""


@pytest.mark.parametrize("fault", RUNS)
@pytest.mark.parametrize("verb", ["evaluate", "score", "export", "train"])
def test_a_damaged_run_is_named_and_left_as_it_is(place, tmp_path, capfd, verb, fault):
    path, harm, said = RUNS[fault]
    own = shutil.copytree(place / "whole", tmp_path / "run")
    damage(own, path, harm)
    before = contents(tmp_path)
    if verb != "train":
        line = refused(capfd, *commands(verb, place, place / "good.jsonl", tmp_path / "out", own))
    elif fault in ("no run", "no checkpoints", "no checkpoint"):
        return  # Training goes on, or begins.
    else:
        line = refused(capfd, *commands(verb, place, place / "good.jsonl", own), "--gin.STEPS=3")
    assert line.startswith(str(own))
    assert said in line
    assert contents(tmp_path) == before


LOGS = {
    "null": (b"null\n", "metrics.jsonl: line 1 is damaged; mend or delete that line, or move the file away"),
    "no step": (b'{"step": 1}\n{}\n{"step": 2}\n', "metrics.jsonl: line 2 is damaged"),
    "no UTF-8": (b'\xff\n{"step": 2}\n', "metrics.jsonl: line 1 is damaged"),
    "a folder": ("folder", "metrics.jsonl: cannot be read (Is a directory); move it away"),
}


@pytest.mark.parametrize("fault", LOGS)
def test_a_damaged_curve_is_named_and_kept(place, tmp_path, capfd, fault):
    harm, said = LOGS[fault]
    own = shutil.copytree(place / "whole", tmp_path / "run")
    damage(own, "metrics.jsonl", harm)
    before = (own / "metrics.jsonl").read_bytes() if harm != "folder" else None
    assert said in refused(capfd, *commands("evaluate", place, place / "good.jsonl", tmp_path / "out", own))
    assert said in refused(capfd, *commands("train", place, place / "good.jsonl", own), "--gin.STEPS=3")
    assert harm == "folder" or (own / "metrics.jsonl").read_bytes() == before


def test_files_in_the_place_of_a_run_s_others_are_named(place, tmp_path, capfd):
    own = shutil.copytree(place / "whole", tmp_path / "run")
    shutil.rmtree(own / "events")
    (own / "events").write_text("x")
    line = refused(capfd, *commands("train", place, place / "good.jsonl", own), "--gin.STEPS=3")
    assert line.startswith(f"{own / 'events'}: cannot be written")
    (own / "operative_config.gin").write_bytes(b"\xff")
    line = refused(capfd, *commands("export", place, None, tmp_path / "out", own))
    assert line.startswith(f"{own / 'operative_config.gin'}: cannot be read")
    (own / "operative_config.gin").unlink()
    (own / "evaluation").mkdir()
    (own / "evaluation" / "report.json").write_text("[]")
    line = refused(capfd, *commands("export", place, None, tmp_path / "out", own))
    assert line.endswith("report.json: holds no JSON object; evaluate again, or delete it")
    assert not (tmp_path / "out").exists()


def test_a_run_whose_backbone_is_gone_says_whose_it_was(place, tmp_path, capfd):
    own = shutil.copytree(place / "whole", tmp_path / "run")
    card = json.loads((own / "model.json").read_text())
    (own / "model.json").write_text(json.dumps(card | {"backbone": "nowhere.gguf"}))
    line = refused(capfd, *commands("score", place, place / "good.jsonl", tmp_path / "out", own))
    assert line.startswith(f"{own}: its backbone cannot be loaded: nowhere.gguf: ")


@pytest.mark.parametrize("verb", ["train", "study"])
def test_an_unknown_gin_parameter_is_named(place, tmp_path, capfd, verb):
    line = refused(capfd, *commands(verb, place, place / "good.jsonl", tmp_path / "out"), f"--gin.{verb}.stepz=3")
    assert f"'{verb}' doesn't have a parameter named 'stepz'" in line
    assert not os.listdir(tmp_path)
