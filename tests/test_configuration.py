"""A configuration that cannot be used is said to be so, by the file or binding at fault."""

import pytest

from crome_jax.configuration import configure
from crome_jax.errors import CromeError
from crome_jax.training.method import check_method
from crome_jax.training.optimizer import adamw
from crome_jax.training.study import study
from crome_jax.training.train import train

FILE = "gin/runs/crome.gin"
DATA = ("DATA", "'prefs.jsonl'")


def test_bindings_override_files_and_later_files_earlier_ones(tmp_path):
    mine = tmp_path / "mine.gin"
    mine.write_text("STEPS = 7\nSEED = 7\n")
    arguments = configure(train, [FILE, str(mine)], [DATA, ("SEED", "8"), ("train.log_every", "3")]).keywords
    assert (arguments["steps"], arguments["seed"], arguments["log_every"]) == (7, 8, 3)


def test_data_may_be_a_mixture_with_weights():
    mixture = ("DATA", "{'groups/': 3, 'more.jsonl': 0.5}")
    assert configure(train, [FILE], [mixture]).keywords["data"] == {"groups/": 3, "more.jsonl": 0.5}
    for wrong in ("3", "['a', 'b']", "{'groups/': 'much'}"):
        with pytest.raises(CromeError, match=r"train\.data is "):
            configure(train, [FILE], [("DATA", wrong)])


def test_every_argument_is_there_and_one_configuration_leaves_nothing_to_the_next():
    configure(train, [FILE], [DATA, ("train.micro_batches", "2")])
    arguments = configure(train, [FILE], [DATA]).keywords
    assert arguments["micro_batches"] == 1
    assert arguments["keep_checkpoints"] == 2


@pytest.mark.parametrize("value", ["'much'", "True", "(1.0,)"])
def test_what_gin_configured_is_called_with_its_bindings(value):
    optimizer = configure(train, [FILE], [DATA, ("adamw.clip_norm", value)]).keywords["optimizer"]
    with pytest.raises(CromeError, match=r"adamw\.clip_norm is .*, not float"):
        optimizer(steps=10)
    optimizer = configure(train, [FILE], [DATA]).keywords["optimizer"]
    assert type(optimizer(steps=10)) is type(adamw(steps=10))


def test_the_operative_configuration_makes_the_same_run_again(tmp_path):
    first = configure(train, [FILE], [DATA, ("STEPS", "9")])
    first.keywords["optimizer"](steps=9)
    saved = tmp_path / "operative_config.gin"
    saved.write_text(first.keywords["operative_config"]())
    assert "adamw.beta2 = 0.95" in saved.read_text()
    again = configure(train, [str(saved)], []).keywords
    different = {name for name, value in first.keywords.items() if again[name] != value}
    # These are wrapped anew by every reference to them; the saved file binds defaults, too.
    assert different <= {"optimizer", "mesh", "method", "settings"}
    assert (again["method"].name, again["method"].kinds) == ("crome", ("human", "causal", "neutral"))


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        (("train.stepz", "3"), r"--gin\.train\.stepz=3: Configurable 'train' doesn't have a parameter named 'stepz'"),
        (("trian.steps", "3"), r"--gin\.trian\.steps=3: No configurable matching 'trian'"),
        (("STEPZ", "3"), r"--gin\.STEPZ=3: the gin files use no STEPZ; they use BACKBONE, DATA, .*STEPS"),
        (("OUT", "runs/x"), r"--gin\.OUT=runs/x: is not gin syntax .*put text in quotes of its own"),
        (("OUT", ""), r"--gin\.OUT=: is not gin syntax"),
        (("OUT", "(1,"), r"--gin\.OUT=\(1,: .*EOF"),
        (("STEPS", "'ten'"), r"train\.steps is 'ten', not int"),
        (("train.skip_bad", "1"), r"train\.skip_bad is 1, not bool"),
        (("TRAINABLE", "'most'"), r"train\.trainable is 'most', not Union\[Literal\['all', 'head'\], int\]"),
        (("crome/Method.kinds", "('human')"), r"Method\.kinds is 'human', not tuple\[str, \.\.\.\]"),
        (("RowShape.tokens", "1.5"), r"RowShape\.tokens is 1\.5, not int"),
        (("METHOD", "@crome"), r"train\.method is @crome, not .*Method"),
        (("METHOD", "@nope()"), r"No configurable matching reference '@nope\(\)'"),
        (("train.steps", "%NOPE"), r"No bindings specified for 'NOPE"),
        (("train.optimizer", "@adamw()"), r"adamw\(\) missing .*'steps'"),
        (("train.operative_config", "'x'"), r"denylisted"),
        (
            ("davidson.nu", "2.0"),
            r"--gin\.davidson\.nu=2\.0: no method of this run has the objective davidson; .*crome",
        ),
        (("x/odin.length_weight", "2.0"), r"no method of this run has the objective odin"),
        (("Lora.rank", "8"), r"--gin\.Lora\.rank=8: this run calls no Lora; give another --gin_file"),
        (("linear.last", "8"), r"this run calls no linear"),
        (("study.steps", "8"), r"this run calls no study"),
        (("sweep.seeds", "(0, 1)"), r"this run calls no sweep"),
        (("adamw.steps", "8"), r"--gin\.adamw\.steps=8: train passes it itself; bind train\.steps instead"),
        (("crome/Method.head", "'two'"), r"Method\.head is 'two', not Literal\['scalar', 'odin', 'pairwise'\]"),
    ],
)
def test_a_wrong_binding_is_named(binding, message):
    with pytest.raises(CromeError, match=message) as error:
        configure(train, [FILE], [DATA, binding])
    assert "\n" not in str(error.value).partition("\n  In call to configurable")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train.steps = 3\ntrain.seed = = 4\n", r"line 2 is not gin syntax"),
        ("\ntrain.stepz = 3\n", r": line 2: .*parameter named 'stepz'"),
        ("include 'none.gin'\n", r"line 1: .*none\.gin"),
        ("import nothing_of_that_name\n", r"nothing_of_that_name"),
        ("\xff\x00", r"mine\.gin"),
    ],
)
def test_a_wrong_file_is_named_with_the_line(tmp_path, content, message, capfd):
    path = tmp_path / "mine.gin"
    path.write_text(content)
    with pytest.raises(CromeError, match=message) as error:
        configure(train, [str(path)], [DATA])
    assert str(path) in str(error.value)
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_named(capfd):
    with pytest.raises(CromeError, match=r"nowhere\.gin: "):
        configure(train, ["nowhere.gin"], [])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("function", [train, study])
def test_without_a_file_the_first_missing_argument_is_named(function):
    with pytest.raises(
        CromeError, match=rf"no gin file: {function.__name__}\.\w+ is not given; pass .* such as gin/runs/\w+\.gin$"
    ):
        configure(function, [], [])


@pytest.mark.parametrize(
    ("method", "binding", "read"),
    [
        ("crome", ("Method.kinds", "('human',)"), "crome/Method.kinds"),
        ("odin", ("Method.head", "'scalar'"), "odin/Method.head"),
        ("rrm", ("crome.neutral_weight", "0.0"), "rrm/crome.neutral_weight"),
        ("crome_scheduled", ("crome.neutral_weight", "0.0"), "crome_scheduled/crome.neutral_weight"),
        ("crome_scheduled", ("linear.last", "50"), "crome_scheduled/linear.last"),
        ("margin", ("bradley_terry.margin", "2.0"), "margin/bradley_terry.margin"),
        ("margin", ("other/bradley_terry.margin", "2.0"), "margin/bradley_terry.margin"),
        # Of an argument that nothing binds, too: the call is not made in that scope.
        ("crome", ("crome/crome.margin", "2.0"), "crome.margin"),
        ("quickstart", ("Method.kinds", "('human',)"), "bradley_terry/Method.kinds and crome/Method.kinds"),
    ],
)
def test_a_binding_that_another_scope_shadows_is_refused_by_the_name_to_bind(method, binding, read):
    function = study if method == "quickstart" else train
    with pytest.raises(CromeError, match=rf"^--gin\..*: this run reads {read} in its place; bind that instead$"):
        configure(function, [f"gin/runs/{method}.gin"], [DATA, binding])
    with pytest.raises(CromeError, match=rf"^{binding[0]} = .*: this run reads {read} in its place"):
        configure(function, [f"gin/runs/{method}.gin"], [DATA], overriding=[binding])


def test_a_study_s_rates_are_its_own():
    with pytest.raises(CromeError, match=r"^--gin\.adamw\.learning_rate=1e-5: .* bind study\.learning_rates instead$"):
        configure(study, ["gin/runs/quickstart.gin"], [("adamw.learning_rate", "1e-5")])


def test_a_name_has_one_value():
    with pytest.raises(CromeError, match=r"^--gin\.STEPS=7: --gin\.STEPS=5 says otherwise; leave one of them out$"):
        configure(train, [FILE], [DATA, ("STEPS", "5"), ("SEED", "1"), ("STEPS", "7")])
    assert configure(train, [FILE], [DATA, ("STEPS", "5"), ("STEPS", "5")]).keywords["steps"] == 5
    assert configure(train, [FILE], [DATA, ("STEPS", "5")], overriding=[("STEPS", "7")]).keywords["steps"] == 7


def test_a_binding_that_one_of_several_methods_reads_is_taken(tmp_path):
    both = tmp_path / "both.gin"
    both.write_text("include 'gin/runs/quickstart.gin'\ninclude 'gin/methods/margin.gin'\n")
    methods = ("study.methods", "[@margin/Method(), @bradley_terry/Method(), @crome/Method()]")
    given = [("bradley_terry.margin", "3.0"), ("Method.head", "'pairwise'"), ("margin/bradley_terry.centring", "0.1")]
    configured = configure(study, [str(both)], [methods, *given]).keywords["methods"]
    assert [method.head for method in configured] == ["pairwise"] * 3
    scheduled = [DATA, ("crome_scheduled/linear.last", "50"), ("crome_scheduled/crome.margin", "0.5")]
    configure(train, ["gin/runs/crome_scheduled.gin"], scheduled)


@pytest.mark.parametrize(
    ("method", "bindings", "problem"),
    [
        (
            "rrm",
            [("rrm/Method.kinds", "('human', 'causal')")],
            r"rrm/crome\.neutral_weight is not 0, but rrm/Method\.kinds takes no neutral comparison; set "
            r"rrm/crome\.neutral_weight to 0, or add 'neutral' to rrm/Method\.kinds",
        ),
        ("crome", [("crome/Method.kinds", "('human',)")], r"crome: crome\.causal_weight is not 0, but crome/Method"),
        ("margin", [("margin/Method.head", "'odin'")], r"set margin/Method\.head to 'scalar', or margin/Method\.obj"),
    ],
)
def test_what_a_method_lacks_is_told_by_the_names_that_bind_it(method, bindings, problem):
    configured = configure(train, [f"gin/runs/{method}.gin"], [DATA, *bindings]).keywords["method"]
    with pytest.raises(CromeError, match=problem):
        check_method(configured, 100, 4)
