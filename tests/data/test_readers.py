"""What is on disk is read whole, or the user is told what is wrong with which record of which file."""

import dataclasses
import datetime
import decimal
import gzip
import io
import json
import math
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crome_jax.data.features import encode_group
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.readers import check_shards, read_groups, read_prompt_responses, read_scorable
from crome_jax.data.records import parse_json
from crome_jax.data.writers import write_groups
from crome_jax.errors import DataError
from crome_jax.groups import Message

GOOD = {"prompt": "Why?", "chosen": "good", "rejected": "bad"}
LINE = json.dumps(GOOD).encode() + b"\n"


def _file(tmp_path, content, name="prefs.jsonl"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def _lines(*records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def _error(path, **kwargs):
    with pytest.raises(DataError) as caught:
        list(read_groups(path, **kwargs))
    str(caught.value).encode()  # It can be printed, whatever the file holds.
    return caught.value


def test_the_same_records_are_read_from_every_format(tmp_path):
    records = [GOOD | {"prompt": f"Why {n}?", "score": n / 2} for n in range(5)]
    records.append({"prompt": None, "chosen": "x", "rejected": "y", "score": None, "question": "Who?"})
    content = _lines(*records)
    plain = list(read_groups(_file(tmp_path, content)))
    assert [g.id for g in plain] == [f"prefs-{n}" for n in range(1, 7)]
    assert list(read_groups(_file(tmp_path, gzip.compress(content), "prefs.jsonl.gz"))) == plain
    schema = pa.schema([(name, pa.string()) for name in ("prompt", "chosen", "rejected", "question")])
    table = pa.Table.from_pylist(records, schema=schema.append(pa.field("score", pa.float64())))
    pq.write_table(table, tmp_path / "prefs.parquet")
    assert list(read_groups(tmp_path / "prefs.parquet")) == plain


def test_conversations_are_read_from_parquet(tmp_path):
    turns = {
        "prompt": [{"role": "user", "content": "Why?"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }
    missing = float("nan")  # As pandas writes it.
    pq.write_table(pa.Table.from_pylist([turns | {"margin": 1.5, "note": missing}]), tmp_path / "a.parquet")
    [group] = read_groups(tmp_path / "a.parquet")
    assert group.prompt == (Message("user", "Why?"),)
    assert [r.text for r in group.responses] == ["good", "bad"]
    assert (group.comparisons[0].margin, group.metadata) == (1.5, {})


def test_a_folder_is_read_in_the_order_of_its_files(tmp_path):
    _file(tmp_path, LINE, "train-00001.jsonl")
    _file(tmp_path, gzip.compress(LINE), "train-00000.jsonl.gz")
    _file(tmp_path, LINE, "test.jsonl")
    _file(tmp_path, b"not data", "README.md")
    _file(tmp_path, b"not data", ".hidden.jsonl")
    assert [g.id for g in read_groups(tmp_path)] == ["test-1", "train-00000-1", "train-00001-1"]
    assert [g.id for g in read_groups(tmp_path, split="train")] == ["train-00000-1", "train-00001-1"]
    assert "no file of the split 'dev'" in _error(tmp_path, split="dev").problem
    assert "no splits" in _error(tmp_path / "test.jsonl", split="test").problem


def test_a_tfds_folder_or_its_parent_is_read(tmp_path):
    groups = list(read_groups(_file(tmp_path, _lines(*[GOOD | {"id": f"{n}"} for n in range(12)]))))
    for version, count in (("1.0.0", 3), ("10.0.0", 12), ("2.0.0", 6)):
        write_groups(tmp_path / "prefs" / version, groups[:count])
    assert list(read_groups(tmp_path / "prefs" / "2.0.0")) == groups[:6]
    assert list(read_groups(tmp_path / "prefs")) == groups
    assert list(read_groups(tmp_path / "prefs", split="train")) == groups
    assert _error(tmp_path / "prefs", split="test").fix == "name one of train"
    write_groups(tmp_path / "others" / "1.0.0", groups)
    assert "several data sets" in _error(tmp_path).problem


def test_a_damaged_tfds_folder_is_an_error(tmp_path):
    groups = list(read_groups(_file(tmp_path, _lines(*[GOOD | {"id": f"{n}"} for n in range(12)]))))
    write_groups(tmp_path / "set", groups)
    [shard] = (tmp_path / "set").glob("*.array_record*")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in _error(tmp_path / "set").problem
    shard.write_bytes(whole)
    (tmp_path / "set" / "features.json").write_text("{}")
    assert "is no whole TFDS folder" in _error(tmp_path / "set").problem


def test_a_missing_shard_is_an_error_that_names_it(tmp_path):
    groups = list(read_groups(_file(tmp_path, _lines(*[GOOD | {"id": f"{n}"} for n in range(12)]))))
    write_groups(tmp_path / "set", groups)
    [shard] = (tmp_path / "set").glob("*.array_record*")
    shard.unlink()
    assert _error(tmp_path / "set").problem == f"lacks 1 of its 1 shards: {shard.name}"


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (["part-00000-of-00003.jsonl", "part-00002-of-00003.jsonl"], ["part-00001-of-00003.jsonl"]),
        (["p-00000-of-00002.jsonl", "p-00001-of-00002.jsonl"], []),
        (["p-1-of-2.jsonl", "p-2-of-2.jsonl", "more.jsonl"], []),
        (["p-2-of-2.jsonl"], ["p-1-of-2.jsonl"]),
        (["p-00001-of-00002.jsonl"], ["p-00000-of-00002.jsonl"]),
        (["a-00000-of-00002.jsonl", "b-00001-of-00002.jsonl"], ["a-00001-of-00002.jsonl", "b-00000-of-00002.jsonl"]),
        (["t-00000-of-00002-0123456789abcdef.jsonl", "t-00001-of-00002-fedcba9876543210.jsonl"], []),
    ],
)
def test_a_missing_shard_of_a_plain_folder_is_an_error_that_names_it(tmp_path, there, missing):
    for number, name in enumerate(there):
        _file(tmp_path, _lines(GOOD | {"id": str(number)}), name)
    if not missing:
        check_shards(tmp_path)
        assert len(list(read_groups(tmp_path))) == len(there)
        return
    told = f"lacks {len(missing)} of its {len(there) + len(missing)} shards: {', '.join(missing)}"
    assert _error(tmp_path).problem == told
    with Quarantine() as quarantine, pytest.raises(DataError, match="shards"):
        list(read_groups(tmp_path, quarantine=quarantine))
    with pytest.raises(DataError, match=told):
        check_shards(tmp_path)
    assert len(list(read_groups(tmp_path / there[0]))) == 1  # A file that was named itself.


def test_only_the_shards_of_the_split_that_is_read_must_be_there(tmp_path):
    for name in ("train-0-of-1.jsonl", "test-1-of-3.jsonl"):
        _file(tmp_path, LINE, name)
    check_shards(tmp_path, split="train")
    with pytest.raises(DataError, match=r"test-0-of-3\.jsonl, test-2-of-3\.jsonl"):
        check_shards(tmp_path, split="test")
    for wrong in (tmp_path / "none", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=wrong.name):
            check_shards(wrong)


def _corrupt(folder, groups, bad, **written):
    """Flip a bit of a record that is in a folder's first shard; return that shard."""
    other = folder.with_name("other")
    write_groups(other, [dataclasses.replace(g, id="x") if g is groups[bad] else g for g in groups], **written)
    shard, changed = (min(path.glob("*.array_record*")) for path in (folder, other))
    content = bytearray(shard.read_bytes())
    # The first byte in which the two differ is in the header of this record's chunk; past that come its bytes.
    first = next(at for at, (a, b) in enumerate(zip(content, changed.read_bytes(), strict=False)) if a != b)
    content[first + 60] ^= 1
    shard.write_bytes(content)
    return shard


@pytest.mark.parametrize("bad", [0, 5, 11])
def test_a_corrupt_record_of_a_shard_is_set_aside_with_its_file_and_number(tmp_path, bad):
    groups = list(read_groups(_file(tmp_path, _lines(*[GOOD | {"id": f"only-{n}-here"} for n in range(12)]))))
    write_groups(tmp_path / "set", groups)
    shard = _corrupt(tmp_path / "set", groups, bad)
    error = _error(tmp_path / "set")
    assert (error.file, error.record) == (str(shard), bad + 1)
    assert error.problem.startswith("is damaged (")
    with Quarantine(tmp_path / "bad.jsonl") as quarantine:
        read = list(read_groups(tmp_path / "set", quarantine=quarantine))
    assert read == [group for group in groups if group.id != f"only-{bad}-here"]
    assert quarantine.count == 1
    line = json.loads((tmp_path / "bad.jsonl").read_text())
    assert (line["file"], line["record"]) == (str(shard), bad + 1)


@pytest.mark.parametrize("corrupt", [False, True])
def test_a_record_of_a_shard_has_one_name_whatever_its_neighbours_are(tmp_path, corrupt, monkeypatch):
    groups = list(read_groups(_file(tmp_path, _lines(*[GOOD | {"id": f"only-{n}"} for n in range(7)]))))
    spoilt = lambda group: encode_group(group) | ({"id": ""} if group is groups[4] else {})  # noqa: E731
    monkeypatch.setattr("crome_jax.data.writers.encode_group", spoilt)
    write_groups(tmp_path / "set", groups, groups_per_shard=3)
    shards = sorted((tmp_path / "set").glob("*.array_record*"))
    if corrupt:
        _corrupt(tmp_path / "set", groups, 0, groups_per_shard=3)
    places = {}
    with Quarantine(tmp_path / "bad.jsonl") as quarantine:
        read = list(read_groups(tmp_path / "set", quarantine=quarantine, places=places))
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(line["file"], line["record"]) for line in bad][corrupt:] == [(str(shards[1]), 2)]
    assert read == [group for group in groups if group is not groups[4]][corrupt:]
    assert (places["only-3"], places["only-6"]) == ((str(shards[1]), 1), (str(shards[2]), 1))


def test_marks_and_blank_lines_are_passed_over(tmp_path):
    content = b"\xef\xbb\xbf" + LINE.replace(b"\n", b"\r\n") + b"\n  \n" + LINE.rstrip()
    assert [g.id for g in read_groups(_file(tmp_path, content))] == ["prefs-1", "prefs-4"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{'prompt'}\n", "is not JSON"),
        (b"[\n", "is part of a JSON array over several lines"),
        (b'{"prompt": "\xe9"}\n', "is not UTF-8 (byte 0xe9 at 12)"),
        (LINE.strip().decode().encode("utf-16"), "is not UTF-8"),
        (LINE.replace(b"}", b', "margin": NaN}'), "holds NaN"),
        (LINE.replace(b"}", b', "margin": -Infinity}'), "holds -Infinity"),
        (LINE.replace(b"}", b', "margin": 1e999}'), "holds 1e999"),
        (LINE.replace(b"}", b', "margin": 1' + b"0" * 400 + b"}"), "too large"),
        (LINE.replace(b"}", b', "margin": 1' + b"0" * 5000 + b"}"), "holds a number that cannot be read"),
        (LINE.replace(b"}", b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "is nested too deep"),
        (LINE.replace(b"good", rb"\ud800"), "lone surrogate"),
        (LINE.replace(b"good", rb"a\u0000b"), "NUL"),
        (LINE.replace(b"good", b"bad"), "is identical to 'chosen'"),
        (LINE.replace(b"good", b""), "is empty"),
        (
            b'{"id": "a", "prompt": [{}], "comparisons": [], "responses": [{"edit": "x"}], "\\ud800": 1}\n',
            "is no field of a group",
        ),
        (LINE.replace(b"good", b"x" * 10_000_000), "is 10,000,052 bytes long, over the limit of 4,194,304"),
        (_lines(GOOD | {"id": "prefs-1"}), "is 'prefs-1', the id of an earlier record"),
    ],
)
def test_a_bad_line_stops_the_reading_or_is_put_aside(tmp_path, content, problem):
    content = content.rstrip(b"\n")
    path = _file(tmp_path, LINE + content + b"\n" + LINE)
    error = _error(path)
    assert (error.file, error.record) == (str(path), 2)
    assert problem in error.problem
    assert str(error).startswith(f"record 2 of {path}: ")
    with Quarantine(tmp_path / "bad.jsonl") as quarantine:
        kept = list(read_groups(path, quarantine=quarantine))
    assert [g.id for g in kept] == ["prefs-1", "prefs-3"]
    aside = json.loads((tmp_path / "bad.jsonl").read_text())
    assert (aside["file"], aside["record"]) == (str(path), 2)
    assert problem in aside["error"]
    raw = aside["raw"].encode(errors="surrogateescape")
    assert raw == (content if len(content) < 1 << 20 else content[:4096])


def test_a_huge_line_is_passed_over_without_being_held(tmp_path):
    path = _file(tmp_path, LINE + b"x" * 30_000_000 + b"\n" + LINE)
    tracemalloc.start()
    with Quarantine() as quarantine:
        assert len(list(read_groups(path, quarantine=quarantine, max_record_bytes=1 << 20))) == 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert quarantine.count == 1
    assert peak < 8 << 20  # The limit is 1 MiB; its copies and the reader's buffers are the rest.


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n\n", "holds no record"),
        ("a.jsonl.gz", b"", "is empty"),
        ("a.jsonl.gz", LINE, "is not gzip"),
        ("a.jsonl.gz", gzip.compress(b""), "holds no record"),
        ("a.jsonl.gz", gzip.compress(LINE * 50)[:-20], "is cut short"),
        ("a.jsonl.gz", gzip.compress(LINE)[:-8] + b"\0" * 8, "is damaged"),
        ("a.parquet", b"PAR1 and no more", "is no whole Parquet file"),
        ("a.parquet", LINE, "is no whole Parquet file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, problem):
    error = _error(_file(tmp_path, content, name))
    assert error.file == str(tmp_path / name)
    assert problem in error.problem


def test_a_missing_or_unreadable_place_is_named(tmp_path):
    assert _error(tmp_path / "absent.jsonl").problem == "does not exist"
    assert _error(tmp_path).problem == "holds nothing that can be read"


def test_a_truncated_parquet_file_is_named(tmp_path):
    pq.write_table(pa.Table.from_pylist([GOOD] * 100), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for size in (len(whole) // 2, len(whole) - 3, 8):
        assert "is no whole Parquet file" in _error(_file(tmp_path, whole[:size], "b.parquet")).problem


def test_what_comes_before_the_damage_is_kept(tmp_path):
    lines = [json.dumps(GOOD | {"prompt": f"Why {n * 7919}?"}).encode() + b"\n" for n in range(5000)]
    path = _file(tmp_path, gzip.compress(b"".join(lines))[:-2000], "a.jsonl.gz")
    with Quarantine() as quarantine:
        kept = list(read_groups(path, quarantine=quarantine))
    assert 100 < len(kept) < 5000
    assert [g.prompt[-1].content for g in kept] == [f"Why {n * 7919}?" for n in range(len(kept))]
    assert quarantine.count == 1
    assert "cut short" in quarantine.first.problem


def test_a_bad_row_of_parquet_is_put_aside(tmp_path):
    pq.write_table(pa.Table.from_pylist([GOOD, GOOD | {"chosen": "bad"}, GOOD]), tmp_path / "a.parquet")
    with Quarantine(tmp_path / "bad.jsonl") as quarantine:
        assert [g.id for g in read_groups(tmp_path / "a.parquet", quarantine=quarantine)] == ["a-1", "a-3"]
    line = json.loads((tmp_path / "bad.jsonl").read_text())
    assert (line["record"], json.loads(line["raw"])) == (2, GOOD | {"chosen": "bad"})


def test_nothing_usable_is_an_error_even_when_bad_records_are_put_aside(tmp_path):
    path = _file(tmp_path, b"{}\n" * 3)
    with Quarantine() as quarantine:
        error = _error(path, quarantine=quarantine)
    assert "all 3 are bad, the first because: record 1 of" in error.problem


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=80), st.binary(max_size=40).map(gzip.compress)),
    st.sampled_from(["a.jsonl", "a.parquet", "a.jsonl.gz"]),
)
def test_no_bytes_crash_the_reader(tmp_path, content, name):
    with Quarantine() as quarantine:
        _error(_file(tmp_path, content, name), quarantine=quarantine)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_crashes_the_reader(tmp_path, data):
    content = bytearray(data.draw(st.sampled_from([LINE * 3, gzip.compress(LINE * 3), _parquet_bytes()])))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        groups = list(read_groups(_file(tmp_path, bytes(content))))
    except DataError:
        return
    assert groups


def test_a_parquet_file_with_a_damaged_column_name_is_named(tmp_path):
    path = _file(tmp_path, _parquet_bytes().replace(b"prompt", b"\x80rompt"))
    with pytest.raises(DataError, match="is no whole Parquet file"):
        list(read_groups(path))


def _parquet_bytes():
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([GOOD] * 3), sink)
    return sink.getvalue()


def test_prompts_and_responses_are_read_for_scoring():
    records = [
        {"prompt": "Why?", "response": "So.", "extra": [1]},
        {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}], "response": "So."},
        {"prompt": "Why?", "response": [{"role": "assistant", "content": "So."}]},
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
    ]
    read = list(read_prompt_responses(io.BytesIO(_lines(*records))))
    assert [number for number, *_ in read] == [1, 2, 3, 4]
    assert [record for *_, record in read] == records
    assert {response for _, _, response, _ in read} == {"So."}
    assert [len(prompt) for _, prompt, _, _ in read] == [1, 2, 1, 1]
    assert read[0][1] == (Message("user", "Why?"),)


@pytest.mark.parametrize(
    ("line", "field", "problem"),
    [
        (b"nonsense", None, "is not JSON"),
        (b"[]", None, "is list, not an object"),
        (b'{"prompt": "Why?"}', "response", "is missing"),
        (b'{"response": "So."}', "prompt", "is missing"),
        (b'{"prompt": "Why?", "response": " "}', "response", "is empty"),
        (b'{"prompt": "Why?", "response": []}', "response", "is empty"),
        (b'{"prompt": "Why?", "response": {"role": "user", "content": "x"}}', "response", "is not one turn"),
        (b'{"prompt": " ", "response": "So."}', "prompt", "is empty"),
        (b'{"messages": []}', "messages", "does not end with the assistant's turn"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "messages", "does not end with the assistant's turn"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "prompt", "is missing"),
    ],
)
def test_what_cannot_be_scored_is_named_or_put_aside(line, field, problem):
    good = b'{"prompt": "Why?", "response": "So."}\n'
    with pytest.raises(DataError) as caught:
        list(read_prompt_responses(io.BytesIO(good + line)))
    assert (caught.value.file, caught.value.record, caught.value.field) == ("<stdin>", 2, field)
    assert problem in caught.value.problem
    with Quarantine() as quarantine:
        assert len(list(read_prompt_responses(io.BytesIO(good + line + b"\n" + good), quarantine=quarantine))) == 2
    assert quarantine.count == 1


@pytest.mark.parametrize("field", ["system", "history", "input", "messages", "id"])
def test_a_field_that_is_null_is_scored_as_if_it_were_absent(field):
    record = {"instruction": "Why?", "response": "So.", field: None}
    [(_, prompt, response, kept)] = read_prompt_responses(io.BytesIO(_lines(record)))
    assert (prompt, response, kept) == ((Message("user", "Why?"),), "So.", record)


def test_a_response_that_is_null_leaves_the_messages_to_end_with_it():
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    record = {"response": None, "messages": turns, "system": None}
    [(_, prompt, response, kept)] = read_prompt_responses(io.BytesIO(_lines(record)))
    assert (prompt, response, kept) == ((Message("user", "Why?"),), "So.", record)


def _scorable(path, **kwargs):
    return [response for record in read_scorable(path, **kwargs) for response in record.responses]


def test_a_group_s_id_is_scored_once(tmp_path):
    """It is by their group's id that the scored responses of a group are found."""
    single = {"id": "x", "prompt": "Why?", "response": "So."}  # Of its kind several may be of one id.
    path = _file(tmp_path, _lines(GOOD | {"id": "x"}, single, GOOD | {"id": "x", "prompt": "Who?"}, single))
    with pytest.raises(DataError, match=r"record 3 of .*'id' is 'x', the id of an earlier record"):
        _scorable(path)
    with Quarantine(tmp_path / "bad.jsonl") as quarantine:
        assert [text for text, _ in _scorable(path, quarantine=quarantine)] == ["good", "bad", "So.", "So."]
    assert json.loads((tmp_path / "bad.jsonl").read_text())["record"] == 3


def test_what_parquet_holds_is_scored_as_json_says_it(tmp_path):
    facts = {
        "when": datetime.datetime(2026, 1, 2, 3, 4, 5),
        "day": datetime.date(2026, 1, 2),
        "hour": datetime.time(3, 4),
        "took": datetime.timedelta(seconds=90),
        "price": decimal.Decimal("1.50"),
        "score": -math.inf,
        "logs": [0.5, -math.inf, math.nan],
        "nested": {"x": math.inf, "days": [datetime.date(2026, 1, 2)]},
        "flag": True,
    }
    pq.write_table(pa.Table.from_pylist([{"prompt": "Why?", "response": "So."} | facts]), tmp_path / "a.parquet")
    [(response, record)] = _scorable(tmp_path / "a.parquet")
    assert response == "So."
    assert record == {
        "prompt": "Why?",
        "response": "So.",
        "when": "2026-01-02T03:04:05",
        "day": "2026-01-02",
        "hour": "03:04:00",
        "took": "0:01:30",
        "price": "1.50",
        "score": None,
        "logs": [0.5, None, None],
        "nested": {"x": None, "days": ["2026-01-02"]},
        "flag": True,
    }
    assert parse_json(json.dumps(record).encode()) == record  # A scored file is read again.


@pytest.mark.parametrize(
    ("extra", "field", "problem"),
    [
        (pa.array([{"png": [b"\xff"]}]), "extra.png[0]", "is binary, which JSON lines cannot hold"),
        (pa.array([2**60], pa.timestamp("us")), None, "holds what Python has no value for"),
        (pa.array([1], pa.timestamp("us", "Foo/Bar")), None, "holds what Python has no value for"),
    ],
)
def test_what_json_cannot_say_is_named_or_put_aside(tmp_path, extra, field, problem):
    table = pa.table({"prompt": ["Why?"], "response": ["So."], "extra": extra})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=problem) as caught:
        _scorable(tmp_path / "a.parquet")
    assert (caught.value.record, caught.value.field) == (1, field)
    with Quarantine(tmp_path / "bad.jsonl") as quarantine:
        assert not _scorable(tmp_path / "a.parquet", quarantine=quarantine)
    assert quarantine.count == 1


# Files of the shared data: records that can be used, and those that cannot (empty, identical or mistyped responses).
REAL = {
    "train/alpaca_eval_groups": (525, 0),
    "train/hh_rlhf_harmless_base_test": (2308, 4),
    "train/ultrafeedback_binarized_sample_train_clean": (994, 6),
    "train/llamafactory_dpo_en_demo": (300, 0),
    "train/autoj_testdata_pairwise": (1382, 10),
    "train/pandalm_testset_v1": (939, 60),
    "eval/judgebench_gpt4o": (350, 0),
    "eval/llmbar_natural": (100, 0),
    "eval/rm_bench_chat_sample20": (20, 0),
    "eval/rewardbench_rebuilt/alpacaeval-easy": (149, 1),
    "eval/rewardbench_rebuilt/xstest-should-refuse": (520, 0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data_sets_are_read(shared_data, name):
    with Quarantine() as quarantine:
        groups = list(read_groups(shared_data / f"{name}.jsonl.gz", quarantine=quarantine))
    assert (len(groups), quarantine.count) == REAL[name]
    assert all(group.comparisons for group in groups)
