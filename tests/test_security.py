"""What comes from outside cannot run code, leave its folder, or show what is secret. One test for each promise."""

import ast
import re
from pathlib import Path

import pytest

import crome_jax
from crome_jax.configuration import configure
from crome_jax.data.chat_templates import ChatTemplate
from crome_jax.errors import CromeError
from crome_jax.groups import Message
from crome_jax.training.train import train

ROOT = Path(crome_jax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
DATA = ("DATA", "'prefs.jsonl'")
CROME = "gin/runs/crome.gin"


def names(path: Path) -> set[str]:
    """Return every module that a file imports, and every attribute and keyword it uses."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module.partition(".")[0], *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.add(node.arg)
    return found


def test_nothing_reads_a_pickle_or_runs_a_text():
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "allow_pickle", "read_pickle"}
    unsafe |= {"eval", "exec", "popen", "yaml", "torch"}
    assert {path.name: names(path) & unsafe for path in FILES if names(path) & unsafe} == {}


@pytest.mark.parametrize("line", ["import os", "import os.path as p", "from os import path", "import crome_jaxx"])
def test_a_gin_file_imports_nothing_from_outside_unless_allowed(tmp_path, line):
    file = tmp_path / "mine.gin"
    file.write_text(f"STEPS = 3\n{line}\n")
    refused = rf"line 2: imports {line.split()[1]}[\w.]*, which runs .*--allow-gin-imports"
    with pytest.raises(CromeError, match=refused):
        configure(train, [CROME, str(file)], [DATA])
    around = tmp_path / "around.gin"
    around.write_text(f"include '{file}'\n")
    with pytest.raises(CromeError, match=refused):
        configure(train, [CROME, str(around)], [DATA])
    with pytest.raises(CromeError, match=r"imports .*--allow-gin-imports"):
        configure(train, [CROME], [DATA, ("STEPS", f"3\n{line}")])
    if "crome_jaxx" not in line:
        configure(train, [CROME, str(file)], [DATA], allow_imports=True)


def test_a_gin_file_may_import_the_project_but_not_reach_through_it(tmp_path):
    file = tmp_path / "mine.gin"
    file.write_text("import crome_jax.training.train\n")
    configure(train, [CROME, str(file)], [DATA])
    file.write_text("from __gin__ import dynamic_registration\nimport crome_jax.cli as c\nSTEPS = @c.os.getcwd()\n")
    with pytest.raises(CromeError, match="imports __gin__"):
        configure(train, [CROME, str(file)], [DATA])


@pytest.mark.parametrize(
    "attack",
    [
        "{{ messages.__class__.__mro__[-1].__subclasses__() }}",
        "{{ ''.__class__.__base__ }}",
        "{% for m in messages %}{{ m.__init__.__globals__ }}{% endfor %}",
        "{{ cycler.__init__.__globals__.os.getcwd() }}",
        "{{ messages.append('x') }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_chat_template_stays_in_its_sandbox(attack):
    source = attack + "{% for m in messages %}{{ m.content }}{% endfor %}"
    render = lambda: ChatTemplate(source, special_tokens={}, control_tokens=()).prompt([Message("user", "hello")])  # noqa: E731
    with pytest.raises(CromeError):
        render()


def test_nothing_unpacks_an_archive():
    """What comes packed (gzip, Parquet, safetensors, GGUF) is read in place; no member's name becomes a path."""
    unpacking = {"tarfile", "extractall", "unpack_archive", "ZipFile", "TarFile"}
    assert {path.name: names(path) & unpacking for path in FILES if names(path) & unpacking} == {}


def test_no_secret_is_read_so_none_can_be_logged():
    """Whoever adds a variable that holds a secret must see to it that logs, cards and errors leave it out."""
    read = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.Call | ast.Subscript) else ""
            if match := re.match(r"os\.(?:environ(?:\.get\(|\[)|getenv\()'(\w+)'", text):
                read.add(match[1])
    assert read == {"XDG_CACHE_HOME"}
