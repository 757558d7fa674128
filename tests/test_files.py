"""An output is there whole, or what was there before still is."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crome_jax import files
from crome_jax.errors import CromeError
from crome_jax.files import check_writable, place, whole_output


def _write(path, kind, text):
    if kind == "folder":
        path.mkdir()
        path = path / "inside"
    path.write_text(text)


def _read(path):
    return (path / "inside" if path.is_dir() else path).read_text()


def _fail_halfway(path, kind, error):
    with whole_output(path, overwrite=True) as partial:
        _write(partial, kind, "half")
        raise error


@pytest.fixture(params=["file", "folder"])
def kind(request):
    return request.param


def test_an_output_appears_when_it_is_finished(tmp_path, kind):
    path = tmp_path / "new" / "out"
    with whole_output(path) as partial:
        _write(partial, kind, "text")
        assert not path.exists()
    assert _read(path) == "text"
    assert os.listdir(path.parent) == ["out"]


@pytest.fixture
def exchanges_nothing(monkeypatch):
    """A file system that cannot exchange two folders at once."""
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)


@pytest.mark.parametrize(("kind", "before"), [("file", "file"), ("folder", "file"), ("folder", "folder")])
def test_an_output_replaces_another_only_when_asked(tmp_path, kind, before):
    path = tmp_path / "out"
    _write(path, before, "old")
    with pytest.raises(CromeError, match="exists already"), whole_output(path):
        pytest.fail("the block must not run")
    assert _read(path) == "old"
    with whole_output(path, overwrite=True) as partial:
        _write(partial, kind, "new")
    assert _read(path) == "new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_never_replaces_a_folder(tmp_path, linked):
    path = tmp_path / "out"
    _write(tmp_path / "thesis" if linked else path, "folder", "years of work")
    if linked:
        path.symlink_to("thesis")
    problem = "out: is a folder, and a file is to be written there; give the name of a file"
    with pytest.raises(CromeError, match=problem), whole_output(path, overwrite=True) as partial:
        partial.write_text("new")
    assert _read(path) == "years of work"
    assert set(os.listdir(tmp_path)) == {"out", *(["thesis"] if linked else [])}


def test_an_error_leaves_what_was_there(tmp_path, kind):
    path = tmp_path / "out"
    _write(path, kind, "old")
    with pytest.raises(ZeroDivisionError):
        _fail_halfway(path, kind, ZeroDivisionError())
    assert _read(path) == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_an_output_that_appeared_meanwhile_is_kept(tmp_path):
    path = tmp_path / "out"
    output = whole_output(path)
    output.__enter__().write_text("mine")
    path.write_text("another's")
    with pytest.raises(CromeError, match="exists already"):
        output.__exit__(None, None, None)
    assert path.read_text() == "another's"


def test_a_folder_replaces_another_where_the_two_cannot_be_exchanged(tmp_path, exchanges_nothing):
    path = tmp_path / "out"
    _write(path, "folder", "old")
    with whole_output(path, overwrite=True) as partial:
        _write(partial, "folder", "new")
    assert _read(path) == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_a_failed_exchange_of_folders_brings_the_old_one_back(tmp_path, monkeypatch, exchanges_nothing):
    path = tmp_path / "out"
    _write(path, "folder", "old")
    replace = os.replace

    def failing(source, target):
        if os.fspath(source).endswith("finished"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(CromeError, match="No space left"), whole_output(path, overwrite=True) as partial:
        _write(partial, "folder", "new")
    assert _read(path) == "old"


@pytest.mark.parametrize(
    ("code", "fix"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only"), (errno.ENOTSUP, "write elsewhere")]
)
def test_a_disk_that_refuses_is_explained(tmp_path, kind, code, fix):
    with pytest.raises(CromeError, match=f"{os.strerror(code)}.*{fix}"):
        _fail_halfway(tmp_path / "out", kind, OSError(code, os.strerror(code)))
    assert os.listdir(tmp_path) == []


def test_a_path_through_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(CromeError, match="cannot be written"), whole_output(tmp_path / "file" / "out"):
        pytest.fail("the block must not run")


def test_a_folder_that_cannot_be_made_is_explained():
    with pytest.raises(CromeError, match="No such file or directory"), whole_output("/proc/x/y"):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError("damaged archive")])
def test_an_error_that_is_not_of_writing_passes_through(tmp_path, error):
    with pytest.raises(OSError, match=r"pipe|archive"):
        _fail_halfway(tmp_path / "out", "file", error)


def test_a_killed_process_leaves_no_output(tmp_path):
    path = tmp_path / "out"
    script = (
        "import os, signal, sys; from crome_jax.files import whole_output\n"
        "with whole_output(sys.argv[1]) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    with whole_output(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two folders at once")
@pytest.mark.parametrize("call", ["os.replace", "shutil.rmtree"])
def test_a_folder_is_there_whole_whenever_a_process_that_replaces_it_is_killed(tmp_path, call):
    path = tmp_path / "out"
    _write(path, "folder", "old")
    script = (
        "import os, shutil, signal, sys; from crome_jax.files import whole_output\n"
        f"call = {call}\n"
        "def last(*given, **named): call(*given, **named); os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{call} = last\n"
        "with whole_output(sys.argv[1], overwrite=True) as partial:\n"
        "    partial.mkdir(); (partial / 'inside').write_text('new')"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert _read(path) in ("old", "new")


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("text")
    with pytest.raises(
        CromeError, match=r"file/a/b: cannot be written \(Not a directory\); a part of the path is a fi"
    ):
        check_writable(tmp_path / "file" / "a" / "b")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(CromeError, match=r"a/b: cannot be written \(Permission denied\); check the permissions"):
        check_writable(tmp_path / "a" / "b")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    check_writable(Path("a/b"))
    check_writable(place("gs://bucket/a"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
