"""The command line: what it explains, how it fails, and the verbs that need no model."""

import dataclasses
import errno
import gzip
import inspect
import io
import json
import subprocess
import sys
import time

import pytest

from crome_jax import cli
from crome_jax.augment.augmentation import augment_groups
from crome_jax.augment.recipe import Recipe
from crome_jax.cli import VERBS, main, make_parser
from crome_jax.data.datasets.causal_testbed import SPLITS, CausalTestbed, CausalTestbedConfig, generate_groups
from crome_jax.data.readers import read_groups
from crome_jax.errors import CromeError
from crome_jax.groups import Kind, to_json
from crome_jax.verbs import testbed as testbed_verb
from crome_jax.verbs.gin_flags import Binding, split_bindings

PAIRS = [to_json(group) for group in generate_groups(CausalTestbedConfig(name="small", train=12), "train")]


@pytest.fixture
def prefs(tmp_path):
    path = tmp_path / "prefs.jsonl"
    path.write_text("\n".join(PAIRS) + "\n")
    return path


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def verb_parsers():
    (verbs,) = (action for action in make_parser()._actions if action.dest == "verb")
    return verbs.choices


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_is_explained_with_its_default(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    page = " ".join(capsys.readouterr().out.split())
    for action in verb_parsers()[verb]._actions:
        if action.dest == "help":
            continue
        assert (action.option_strings or [action.metavar])[0] in page
        assert ("(required" if action.required else "(default: ") in action.help
        if isinstance(action.default, int) and not isinstance(action.default, bool):
            assert f"(default: {action.default}" in page


def test_help_names_every_verb_and_is_quick():
    started = time.monotonic()
    page = subprocess.run([sys.executable, "-m", "crome_jax", "--help"], capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 5  # Alone 0.2 s; with JAX imported it takes some.
    for verb, summary in VERBS.items():
        assert verb in page.stdout
        assert summary.split()[0] in page.stdout


def test_help_imports_nothing_heavy():
    code = "import sys, crome_jax.cli as c; c.make_parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"jax", "numpy", "tensorflow_datasets", "pyarrow", "gin"} & set(loaded)


def test_the_defaults_of_flags_are_those_of_the_functions():
    args = make_parser().parse_args(["augment", "--data", "x", "--out", "y"])
    for field in dataclasses.fields(Recipe):  # Not given, they are the recipe's own, or what a gin file says.
        assert not hasattr(args, field.name)
    assert args.seed == inspect.signature(augment_groups).parameters["seed"].default
    assert args.max_record_bytes == inspect.signature(read_groups).parameters["max_record_bytes"].default
    assert set(testbed_verb.CONFIGS) == set(CausalTestbed.builder_configs)


@pytest.mark.parametrize(
    ("argv", "rest", "bindings"),
    [
        (["--gin.A=1", "--gin.b.c", "-1", "--skip-bad"], ["--skip-bad"], [("A", "1"), ("b.c", "-1")]),
        (["--gin.OUT='a=b'"], [], [("OUT", "'a=b'")]),
        (["--gin_file=x", "--gin.A="], ["--gin_file=x"], [("A", "")]),
        (["--gin.A"], ["--gin.A"], []),
    ],
)
def test_bindings_are_taken_out_of_a_command(argv, rest, bindings):
    assert split_bindings(argv) == (rest, [Binding(*binding) for binding in bindings])


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["augment"],
        ["augment", "--data", "x", "--out", "y", "--seeds", "3"],
        ["augment", "--data", "x", "--out", "y", "--seed", "three"],
        ["augment", "--data", "x", "--out", "y", "--degrade-per-pair", "-1"],
        ["augment", "--data", "x", "--out", "y", "--oracle", "delphi"],
        ["score", "--checkpoint", "x", "--gin.SEED=3"],
        ["train", "--gin.SEED"],
        ["score"],
    ],
)
def test_a_wrong_command_is_refused(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (CromeError("x.jsonl: is empty; check it"), 2, "crome: error: x.jsonl: is empty; check it\n"),
        (KeyboardInterrupt(), 130, "crome: interrupted\n"),
    ],
)
def test_errors_are_said_in_one_line(raised, status, said, monkeypatch, capsys):
    def fail(args):
        raise raised

    monkeypatch.setattr("crome_jax.verbs.testbed.run", fail)
    assert main(["testbed", "--out", "x"]) == status
    assert capsys.readouterr().err == said


def test_the_status_is_that_of_the_error_also_where_it_cannot_be_said(monkeypatch):
    def fail(args):
        sys.stderr = Full()
        raise CromeError("x: cannot be written")

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr("crome_jax.verbs.testbed.run", fail)
    assert main(["testbed", "--out", "x"]) == 2


def test_a_defect_of_the_program_keeps_its_traceback(monkeypatch):
    def fail(args):
        raise ZeroDivisionError

    monkeypatch.setattr("crome_jax.verbs.testbed.run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["testbed", "--out", "x"])


def test_a_reader_that_goes_away_is_no_error():
    code = (
        "import sys, crome_jax.cli as c, crome_jax.verbs.testbed as t\n"
        "t.run = lambda args: [print('x' * 80) for _ in range(100_000)]\n"
        "sys.exit(c.main(['testbed', '--out', 'x']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141
    process.stderr.close()


def test_the_testbed_is_written_whole_and_read_by_split(tmp_path, capsys):
    sizes = dict(zip(SPLITS, (6, 2, 4, 4, 2, 4), strict=True))
    small = CausalTestbedConfig(name="small", **sizes)
    flags = ("--train", 6, "--validation", 2, "--test", 4)
    out = tmp_path / "testbed"
    assert run("testbed", "--out", out, *flags) == 0
    assert capsys.readouterr().out == ""
    for split in sizes:
        assert sorted(map(to_json, read_groups(out, split=split))) == sorted(
            map(to_json, generate_groups(small, split))
        )
    assert [path.name for path in tmp_path.iterdir()] == ["testbed"]
    assert run("testbed", "--out", out, *flags) == 2
    assert "exists already; choose another name or pass --overwrite" in capsys.readouterr().err
    before = {to_json(group) for group in read_groups(out, split="train")}
    assert run("testbed", "--out", out, *flags, "--overwrite", "--seed", 7) == 0
    assert before.isdisjoint(to_json(group) for group in read_groups(out, split="train"))


def test_the_testbed_does_not_replace_a_folder_of_something_else(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert run("testbed", "--out", tmp_path, "--overwrite") == 2
    assert "something else than a data set" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("name", ["groups", "groups.jsonl", "groups.jsonl.gz"])
def test_augmented_groups_are_written_and_counted(prefs, name, capsys):
    out = prefs.with_name(name)
    assert run("augment", "--data", prefs, "--out", out) == 0
    groups = list(read_groups(out))
    assert [group.id for group in groups] == [json.loads(line)["id"] for line in PAIRS]
    kinds = [comparison.kind for group in groups for comparison in group.comparisons]
    printed = capsys.readouterr().out
    for kind in Kind:
        assert kinds.count(kind) > 0
        assert f"{kinds.count(kind)} {kind.name.lower()}" in printed


def test_the_flags_of_augment_reach_the_augmentation(prefs):
    doubled = prefs.with_name("doubled.jsonl")
    doubled.write_text(prefs.read_text() + prefs.read_text().replace('"id":"', '"id":"again-'))
    out = prefs.with_name("out.jsonl")
    counts = ("degrade-per-pair", "upgrade-per-pair", "align-per-pair", "neutrals-per-group")
    nothing = [part for name in counts for part in (f"--{name}", 0)]
    assert run("augment", "--data", doubled, "--out", out, "--merge-prompts", *nothing) == 0
    groups = list(read_groups(out))
    assert len(groups) == len(PAIRS)
    assert all([c.kind for c in group.comparisons] == [Kind.HUMAN] * 2 for group in groups)


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(prefs):
    written = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = prefs.with_name(f"{name}.jsonl")
        assert run("augment", "--data", prefs, "--out", out, "--seed", seed) == 0
        written[name] = out.read_bytes()
    assert written["a"] == written["b"] != written["c"]


def test_a_bad_record_is_an_error_or_set_aside(prefs, capsys):
    prefs.write_text("\n".join([PAIRS[0], '{"prompt": "no end', *PAIRS[1:], '{"prompt": "a", "chosen": 3}']) + "\n")
    out = prefs.with_name("groups.jsonl")
    bad = prefs.with_name("groups.jsonl.bad.jsonl")
    assert run("augment", "--data", prefs, "--out", out) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"crome: error: record 2 of {prefs}: is not JSON")
    assert "--skip-bad" in message
    assert not out.exists()
    assert not bad.exists()
    assert run("augment", "--data", prefs, "--out", out, "--skip-bad") == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"2 bad records set aside in {bad}"
    assert [json.loads(line)["record"] for line in bad.read_text().splitlines()] == [2, 14]
    assert len(list(read_groups(out))) == len(PAIRS)


def test_a_mended_input_leaves_no_old_list_of_bad_records(prefs):
    out = prefs.with_name("groups.jsonl")
    prefs.write_text(prefs.read_text() + "not JSON\n")
    assert run("augment", "--data", prefs, "--out", out, "--skip-bad") == 0
    prefs.write_text("\n".join(PAIRS))
    assert run("augment", "--data", prefs, "--out", out, "--skip-bad", "--overwrite") == 0
    assert not prefs.with_name("groups.jsonl.bad.jsonl").exists()


@pytest.mark.parametrize("flags", [[], ["--skip-bad"], ["--skip-bad", "--overwrite"]])
def test_a_file_of_the_name_of_a_list_of_bad_records_is_kept(prefs, capsys, flags):
    thesis = prefs.with_name("groups.jsonl.bad.jsonl")
    thesis.write_text("years of work")
    assert run("augment", "--data", prefs, "--out", prefs.with_name("groups.jsonl"), *flags) == (2 if flags else 0)
    assert (f"{thesis}: " in capsys.readouterr().err) == bool(flags)
    assert thesis.read_text() == "years of work"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("empty.jsonl", b"", "is empty"),
        ("missing.jsonl", None, "does not exist"),
        ("short.jsonl.gz", gzip.compress("\n".join(PAIRS).encode())[:-20], "cut short"),
        ("nul.jsonl", b'{"prompt": "a\\u0000", "chosen": "b", "rejected": "c"}\n', "NUL"),
        ("same.jsonl", b'{"prompt": "a", "chosen": "b", "rejected": "b"}\n', "chosen"),
        (
            "big.jsonl",
            b'{"prompt": "' + b"a" * 10_000_000 + b'"}\n',
            "over the limit of 4,194,304; shorten the record, raise augment's --max-record-bytes",
        ),
    ],
)
def test_data_that_cannot_be_used_is_named(tmp_path, capsys, name, content, problem):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert run("augment", "--data", path, "--out", tmp_path / "groups") == 2
    message = capsys.readouterr().err
    assert str(path) in message
    assert problem in message
    assert not (tmp_path / "groups").exists()


def test_an_output_that_cannot_be_written_is_said_before_any_work(prefs, capsys, monkeypatch):
    monkeypatch.setattr("crome_jax.data.readers.read_groups", None)  # Reading would fail.
    assert run("augment", "--data", prefs, "--out", prefs / "groups") == 2
    assert "a part of the path is a file; write elsewhere" in capsys.readouterr().err
    assert run("augment", "--data", prefs, "--out", prefs) == 2
    assert "exists already" in capsys.readouterr().err


def test_every_verb_has_a_module_and_is_dispatched():
    for verb, parser in verb_parsers().items():
        assert parser.get_default("run").__module__ == f"crome_jax.verbs.{verb}"
    assert cli.VERBS.keys() == verb_parsers().keys()
