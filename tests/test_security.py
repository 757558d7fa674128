"""What comes from outside cannot run code, leave its folder, or show what is secret. One test for each promise."""

import ast
import json
from pathlib import Path

import pytest
from fake_endpoint import Answer, FakeEndpoint

import crome_jax
from crome_jax.cli import main
from crome_jax.configuration import configure
from crome_jax.data.chat_templates import ChatTemplate
from crome_jax.errors import CromeError
from crome_jax.groups import Message
from crome_jax.training.train import train
from crome_jax.weights.safetensors_files import TensorFiles

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
            found |= set() if getattr(node.value, "value", True) is False else {node.arg}
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


UNPACKING = {
    *("tarfile", "TarFile", "ZipFile", "unpack_archive", "extract", "extractall"),
    *("download_and_extract", "iter_archive", "gunzip"),
}


def test_nothing_unpacks_an_archive():
    """What comes packed (gzip, Parquet, safetensors, GGUF) is read in place; no member's name becomes a path."""
    assert {path.name: names(path) & UNPACKING for path in FILES if names(path) & UNPACKING} == {}


@pytest.mark.parametrize("elsewhere", ["../outside.safetensors", "/etc/passwd", "below/../../outside.safetensors"])
def test_an_index_of_weights_names_no_file_outside_its_folder(tmp_path, elsewhere):
    (tmp_path / "model").mkdir()
    (tmp_path / "outside.safetensors").touch()
    index = {"weight_map": {"model.norm.weight": elsewhere}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CromeError, match=r"outside|passwd"):
        TensorFiles(tmp_path / "model")


ENVIRONMENT = {
    "augment/oracles/chat/client.py",  # The key, which the tests below look for.
    "cli.py",  # For JAX and libtpu, by names that no key has.
    "training/processes.py",
    "training/topology.py",
    "weights/packages.py",
}
"""What reads or writes variables of the environment, where secrets are. Whoever adds to this must see to it that logs,
cards and errors leave them out."""


def touches_environment(path: Path) -> bool:
    """Tell whether a file names the environment, in whatever way it then reads it."""
    return bool(names(path) & {"environ", "environb", "getenv", "getenvb"})


@pytest.mark.parametrize(
    "line",
    ["os.environ.get(name)", "os.environ['KEY']", "from os import environ as e", "f(os.getenv)", "getenvb(b'KEY')"],
)
def test_whoever_reads_the_environment_is_seen(tmp_path, line):
    (tmp_path / "a.py").write_text(f"import os\nname = 'environ'\n{line}\n")
    assert touches_environment(tmp_path / "a.py")
    (tmp_path / "a.py").write_text("import os\nname = 'environ'\nenvironment = os.sep\n")
    assert not touches_environment(tmp_path / "a.py")


def test_the_environment_is_read_in_known_places_alone():
    assert {path.relative_to(ROOT).as_posix() for path in FILES if touches_environment(path)} == ENVIRONMENT


@pytest.mark.parametrize("refused", [False, True])
def test_a_key_is_in_no_log_card_cache_or_error_of_a_command(tmp_path, monkeypatch, capfd, refused):
    key = "sk-SECRET0123456789"
    monkeypatch.setenv("MY_KEY", key)
    quoted = json.dumps({"error": {"message": f"Incorrect API key provided: {key}, or {key[:12]}***."}}).encode()
    prefs, out = tmp_path / "prefs.jsonl", tmp_path / "groups"
    prefs.write_text('{"prompt": "How do clocks work?", "chosen": "By a spring and gears.", "rejected": "They do."}\n')
    with FakeEndpoint(lambda number, body: Answer(status=401, body=quoted) if refused else None) as endpoint:
        settings = {"base_url": endpoint.url, "cache": str(tmp_path / "cache"), "api_key_env": "MY_KEY"}
        flags = [f"--gin.ChatSettings.{name}={value!r}" for name, value in settings.items()]
        flags += ["--gin.MODEL='x'", "--oracle", "chat", "--neutrals-per-group", "0"]
        assert main(["augment", "--data", str(prefs), "--out", str(out), *flags]) == (2 if refused else 0)
        assert endpoint.headers[0]["authorization"] == f"Bearer {key}"
    said = capfd.readouterr()
    written = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) >= (1 if refused else 4)
    for place, text in {"output": said.out.encode(), "errors": said.err.encode(), **written}.items():
        assert key[:12].encode() not in text, place
    assert "[key]" in said.err or not refused
