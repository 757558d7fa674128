"""Groups are written in order, whole, or not at all, and memory does not grow with them."""

import errno
import gzip
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tracemalloc

import pytest
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import groups

from crome_jax.data.features import decode_group
from crome_jax.data.readers import read_groups
from crome_jax.data.records import MAX_RECORD_BYTES
from crome_jax.data.writers import write_groups
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Comparison, build_group, from_json, to_json

NAMES = ["out", "out.jsonl", "out.jsonl.gz"]


def _groups(count, size=1):
    for n in range(count):
        yield build_group(
            id=f"{n}", prompt=f"Why {n}?", responses=["a" * size, "b"], comparisons=[Comparison(0, 1, margin=0.1)]
        )


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(several=st.lists(groups(), min_size=1, max_size=5, unique_by=lambda g: g.id))
def test_what_is_written_is_read(tmp_path, name, several):
    assert write_groups(tmp_path / name, several, overwrite=True) == len(several)
    assert list(read_groups(tmp_path / name)) == several


@pytest.mark.parametrize("name", NAMES)
def test_order_is_kept_over_shards(tmp_path, name):
    several = list(_groups(700))
    write_groups(tmp_path / name, iter(several), groups_per_shard=64)
    assert list(read_groups(tmp_path / name)) == several


def test_tfds_reads_the_folder_by_itself(tmp_path):
    several = list(_groups(5))
    write_groups(tmp_path / "out", several, split="test", description="Five groups.", groups_per_shard=2)
    builder = tfds.builder_from_directory(tmp_path / "out")
    assert builder.info.description == "Five groups."
    assert builder.info.splits["test"].num_examples == 5
    assert [decode_group(example) for example in builder.as_data_source("test")] == several


def test_equal_groups_make_equal_files(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_groups(tmp_path / name, _groups(3))
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    lines = gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).splitlines()
    assert [from_json(line) for line in lines] == list(_groups(3))


@pytest.mark.parametrize("name", NAMES)
def test_an_output_is_replaced_only_when_asked(tmp_path, name):
    write_groups(tmp_path / name, _groups(2))
    with pytest.raises(CromeError, match=r"exists already.*--overwrite"):
        write_groups(tmp_path / name, _groups(3))
    assert len(list(read_groups(tmp_path / name))) == 2
    write_groups(tmp_path / name, _groups(3), overwrite=True)
    assert len(list(read_groups(tmp_path / name))) == 3


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    with pytest.raises(CromeError, match="something else than groups"):
        write_groups(tmp_path / "thesis", _groups(1), overwrite=True)
    assert (tmp_path / "thesis" / "chapter").read_text() == "years of work"


def test_lines_never_replace_a_folder(tmp_path):
    write_groups(tmp_path / "out", _groups(2))
    (tmp_path / "out").rename(tmp_path / "out.jsonl")
    asked = iter(_groups(1))
    with pytest.raises(CromeError, match=r"out\.jsonl: is a folder"):
        write_groups(tmp_path / "out.jsonl", asked, overwrite=True)
    assert len(list(asked)) == 1  # It is said before a group is made.
    assert len(list(read_groups(tmp_path / "out.jsonl"))) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [0, 2])
def test_an_error_of_the_input_changes_nothing(tmp_path, name, before):
    if before:
        write_groups(tmp_path / name, _groups(before))

    def failing():
        yield from _groups(400)
        raise DataError("is broken", field="prompt")

    with pytest.raises(DataError, match="is broken"):
        write_groups(tmp_path / name, failing(), overwrite=True)
    assert os.listdir(tmp_path) == ([name] if before else [])
    if before:
        assert len(list(read_groups(tmp_path / name))) == before


@pytest.mark.parametrize("name", NAMES)
def test_no_group_is_an_error(tmp_path, name):
    with pytest.raises(CromeError, match="no group to write"):
        write_groups(tmp_path / name, [])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "over"), [("out.jsonl", 0), ("out.jsonl.gz", 0), ("out", 1)])
def test_the_longest_group_that_is_written_is_read(tmp_path, name, over):
    longest = _one_of_bytes(MAX_RECORD_BYTES + over)
    write_groups(tmp_path / name, [longest])
    assert list(read_groups(tmp_path / name)) == [longest]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_a_line_that_would_not_be_read_is_not_written(tmp_path, name):
    problem = r"group '0' is a line of 4,194,305 bytes and lines are read up to 4,194,304; write a TFDS folder"
    with pytest.raises(CromeError, match=problem):
        write_groups(tmp_path / name, [_one_of_bytes(MAX_RECORD_BYTES + 1)])
    assert not os.listdir(tmp_path)


def _one_of_bytes(size):
    [smallest] = _groups(1)
    [group] = _groups(1, 1 + size - len(to_json(smallest).encode()))
    assert len(to_json(group).encode()) == size
    return group


@pytest.fixture
def small_disk():
    """Let no file of this process grow over 64 KiB, as a full disk would."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["out", "out.jsonl"])
def test_a_file_that_cannot_grow_leaves_no_output(tmp_path, small_disk, name):
    with pytest.raises(CromeError, match=r"out.*cannot be written \(.*too large"):
        write_groups(tmp_path / name, (g for g in _incompressible(300)))
    assert os.listdir(tmp_path) == []


def _incompressible(count):
    for n in range(count):
        yield build_group(id=f"{n}", prompt="Why?", responses=[os.urandom(2000).hex(), "b"], comparisons=[])


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_a_full_disk_is_explained(tmp_path, monkeypatch, name):
    class FullDisk:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def flush(self):
            pass

    opened = pathlib.Path.open
    monkeypatch.setattr(pathlib.Path, "open", lambda *args, **kwargs: FullDisk(opened(*args, **kwargs)))
    with pytest.raises(CromeError, match=r"No space left on device.*free some space"):
        write_groups(tmp_path / name, _groups(3))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_permission_is_explained(tmp_path, name):
    tmp_path.chmod(0o500)
    with pytest.raises(CromeError, match=r"Permission denied.*check the permissions"):
        write_groups(tmp_path / name, _groups(1))


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_writer_leaves_no_output(tmp_path, name):
    script = (
        "import os, signal, sys\n"
        "from crome_jax.data.writers import write_groups\n"
        "from crome_jax.groups import build_group\n"
        "def groups():\n"
        "    for n in range(600):\n"
        "        yield build_group(id=str(n), prompt='q', responses=['a'], comparisons=[])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_groups(sys.argv[1], groups())"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / name).exists()
    assert write_groups(tmp_path / name, _groups(1)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_memory_does_not_grow_with_the_input(tmp_path, monkeypatch, name):
    monkeypatch.setattr("crome_jax.data.writers._CHUNK", 8)
    monkeypatch.setattr("crome_jax.data.readers._TFDS_EXAMPLES", 8)

    def peak(count):
        tracemalloc.start()
        write_groups(tmp_path / name, _groups(count, size=50_000), overwrite=True)
        assert sum(1 for _ in read_groups(tmp_path / name)) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(16)  # What is imported or cached once is not counted.
    assert peak(120) < peak(24) + 1_000_000  # The 96 groups more are 4,800,000 bytes of text.


def test_a_folder_has_the_same_bytes_whichever_process_writes_it(tmp_path):
    group = build_group(id="g", prompt="q", responses=["a", "b"], comparisons=[Comparison(0, 1)])
    code = (
        "import sys\nfrom crome_jax.data.writers import write_groups\nfrom crome_jax.groups import from_json\n"
        f"write_groups(sys.argv[1], [from_json({to_json(group)!r})])"
    )
    for name in ("first", "second"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True, capture_output=True)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["out.parquet", "out.json"])
def test_a_name_that_promises_another_format_is_refused(tmp_path, name):
    with pytest.raises(CromeError, match=r"end it in \.jsonl"):
        write_groups(tmp_path / name, [], description="toy")
    assert not list(tmp_path.iterdir())
