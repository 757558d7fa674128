"""Gin at the edge: the few functions whose arguments configuration files bind. The core imports no gin."""

import collections.abc
import contextlib
import functools
import inspect
import logging
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import gin
from jax.typing import ArrayLike

from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.augment.oracles.choice import augmentation
from crome_jax.augment.recipe import Recipe
from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.models.config import Lora
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.bsr import bsr
from crome_jax.objectives.crome import crome
from crome_jax.objectives.davidson import davidson
from crome_jax.objectives.mmd import mmd
from crome_jax.objectives.odin import odin
from crome_jax.objectives.plackett_luce import plackett_luce
from crome_jax.objectives.rao_kupper import rao_kupper
from crome_jax.objectives.schedules import linear
from crome_jax.sweeps.plan import sweep
from crome_jax.training.mesh import make_mesh
from crome_jax.training.method import Method
from crome_jax.training.optimizer import adamw
from crome_jax.training.plan import plan
from crome_jax.training.study import study
from crome_jax.training.train import train

gin.add_config_file_search_path(str(Path(__file__).parents[1]))


def configure(
    function: Callable,
    files: Sequence[str],
    bindings: Sequence[tuple[str, str]],
    *,
    overriding: Sequence[tuple[str, str]] = (),
    shared: bool = False,
    allow_imports: bool = False,
) -> functools.partial:
    """Give a function the arguments that gin files and bindings say.

    A gin file is nearly code: an `import` line in it runs what it names, so one from outside this package is refused.

    Args:
        function: `train`, `study`, `sweep`, `plan` or `augmentation`.
        files: gin files, a later one over an earlier; looked for in the current folder, then beside the package.
        bindings: (name, value) in gin's syntax, over all files: a macro, or `configurable.argument`.
        overriding: the same, over those; one of these may take the place of a macro, where a binding may not.
        shared: whether `bindings` are those of several configurations: one that this one does not read is then no
            error.
        allow_imports: whether gin may import any module.

    Returns:
        The function with every argument bound, and ready to be called without any.

    Raises:
        CromeError: naming the file or binding that cannot be parsed, is unknown, of a wrong type, missing, imports what
            it must not, says what another binding contradicts or takes the place of, or is read nowhere.
    """
    replaced = _parse(files, bindings, allow_imports)
    for name, value in bindings:
        if name in replaced:
            raise CromeError(f"--gin.{name}={value}: {replaced[name]} takes its place; leave one of them out")
    for name, value in overriding:
        with _explained(f"{name} = {value}"), _imports_checked(allow_imports):
            gin.parse_config(f"{name} = {value}")
    place = " ".join(files) or "no gin file"
    with _explained(place):
        gin.finalize()
        arguments = _ENTRIES[function]()
    signature = inspect.signature(function)
    try:
        bound = signature.bind(**arguments)
    except TypeError as e:
        missing = str(e).rpartition(" ")[2].strip("'")
        fix = f"pass a --gin_file that does, such as {_EXAMPLES[function]}"
        raise CromeError(f"{place}: {function.__name__}.{missing} is not given; {fix}") from None
    bound.apply_defaults()
    given = {"operative_config": gin.operative_config_str, "settings": _settings()}
    configured = functools.partial(
        function, **bound.arguments | {name: value for name, value in given.items() if name in signature.parameters}
    )
    said = {} if shared else {name: f"--gin.{name}={value}" for name, value in bindings}
    said |= {name: f"{name} = {value}" for name, value in overriding}
    for name, problem in find_unread(configured, [*said]).items():
        raise CromeError(f"{said[name]}: {problem}")
    return configured


def configurables(verb: str) -> tuple[Callable, ...]:
    """Return the functions whose arguments the gin files of a verb bind, its own first."""
    own = {"augment": (augmentation, Recipe, ChatSettings), "sweep": (sweep, train, study, *_OF_RUNS)}
    return own.get(verb) or ({"train": train, "study": study, "plan": plan}[verb], *_OF_RUNS)


def choose_entry(files: Sequence[str], bindings: Sequence[tuple[str, str]], *, allow_imports: bool = False) -> Callable:
    """Tell whether gin files and bindings configure `train` or `study`.

    Raises:
        CromeError: where they configure neither or both, or cannot be parsed.
    """
    _parse(files, bindings, allow_imports)
    configured = {name.rpartition("/")[2].partition(".")[0] for name in _settings()}
    found = [function for function in (train, study) if function.__name__ in configured]
    if len(found) != 1:
        what = "both train and study" if found else "neither train nor study"
        raise CromeError(
            f"{' '.join(files) or 'no gin file'}: configures {what}; give the --gin_file of one run or study"
        )
    return found[0]


def _parse(files: Sequence[str], bindings: Sequence[tuple[str, str]], allow_imports: bool) -> dict[str, str]:
    """Parse files and bindings; return each macro of the files that is used no more, and the binding that did it."""
    gin.clear_config()
    for file in files:
        with _explained(file), _imports_checked(allow_imports):
            gin.parse_config_file(file)
    known = used = _macros()
    replaced: dict[str, str] = {}
    given: dict[str, str] = {}
    for name, value in bindings:
        if given.setdefault(name, value) != value:
            raise CromeError(f"--gin.{name}={value}: --gin.{name}={given[name]} says otherwise; leave one of them out")
        with _explained(f"--gin.{name}={value}"), _imports_checked(allow_imports):
            gin.parse_config(f"{name} = {value}")
        if "." not in name and name not in known:
            raise CromeError(
                f"--gin.{name}={value}: the gin files use no {name}; they use {', '.join(known) or 'none'}"
            )
        still = _macros()
        replaced |= dict.fromkeys(set(used) - set(still), f"--gin.{name}={value}")
        used = still
    return {macro: binding for macro, binding in replaced.items() if macro not in used}


def find_unread(configured: functools.partial, names: Sequence[str]) -> dict[str, str]:
    """Find bindings without effect: of what is not called, as an objective that no method has, or that others take the
    place of.

    Gin lets the inner scope win: where `crome/Method.kinds` is bound, `@crome/Method()` does not read `Method.kinds`.

    Args:
        configured: from `configure`, and the last that was configured.
        names: of bindings.

    Returns:
        Name -> what is wrong, and what to bind instead; the others are read. What a sweep gives its jobs is theirs.
    """
    arguments = configured.keywords.values()
    methods = [m for value in arguments for m in (value if isinstance(value, list | tuple) else [value])]
    used = {method.objective.__name__ for method in methods if isinstance(method, Method)}
    absent = {function.__name__ for function in OBJECTIVES} - used if used else set()  # A sweep's jobs have methods.
    calls = set(_calls(f"{configured.func.__module__}.{configured.func.__name__}"))
    unread = {}
    for name in names:
        if "." not in name:
            continue
        key = gin.config.ParsedBindingKey.parse(name)
        called = key.complete_selector.rpartition(".")[2]
        if called in absent:
            unread[name] = (
                f"no method of this run has the objective {called}; bind an argument of {', '.join(sorted(used))}, or "
                "give another --gin_file"
            )
            continue
        scopes = {_scope_that_wins(scope, key) for selector, scope in calls if selector == key.complete_selector}
        instead = _PASSED.get((configured.func, called, key.arg_name))
        if instead:
            unread[name] = f"{configured.func.__name__} passes it itself; bind {instead} instead"
        elif not scopes and configured.func is not sweep:
            unread[name] = f"this run calls no {called}; give another --gin_file, one that does, or leave it out"
        elif scopes and key.scope not in scopes:
            read = " and ".join(f"{scope}/{called}.{key.arg_name}".removeprefix("/") for scope in sorted(scopes))
            unread[name] = f"this run reads {read} in its place; bind that instead"
    return unread


def _calls(selector: str, scope: tuple[str, ...] = (), late: bool = False) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what is called, with the scope it is called in, from a configurable on.

    Args:
        late: whether it is called by what it was given to, as an objective is, and not while gin configures.
    """
    yield selector, scope
    for reference in _references(gin.get_bindings("/".join([*scope, selector]), resolve_references=False)):
        # Whoever is configured gives on what is not called here; it is called later, outside of any scope.
        inherited = scope if late or reference.evaluate else ()
        inner = tuple(reference.scopes) or inherited
        yield from _calls(reference.configurable.selector, inner, not reference.evaluate)


def _references(value: Any) -> Iterator[Any]:
    """Yield the references in a bound value, and those that its macros stand for."""
    for reference in gin.config.iterate_references(value):
        if reference.configurable.wrapped is gin.config.macro:
            yield from _references(gin.query_parameter(f"{reference.scoped_selector}.value"))
        else:
            yield reference


def _scope_that_wins(scope: tuple[str, ...], key: Any) -> str:
    """Return the scope of the binding that a call in `scope` reads an argument from; its own where there is none."""
    outwards = ["/".join(scope[:length]) for length in range(len(scope), -1, -1)]
    for outer in outwards:
        place = f"{outer}/{key.complete_selector}"
        if key.arg_name in gin.get_bindings(place, resolve_references=False, inherit_scopes=False):
            return outer
    return outwards[0]


def _settings() -> dict[str, str]:
    """Return every binding of the files and the command line, in gin's syntax, but for what a sweep does with them."""
    lines = gin.config_str(max_line_length=100_000).splitlines()
    settings = dict(line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#"))
    return {name: value for name, value in settings.items() if not name.startswith("sweep.")}


def _macros() -> list[str]:
    """Return the names of the macros that the files parsed so far make use of."""
    return sorted(set(re.findall(r"%(\w+)", gin.config_str(max_line_length=1000))) - {"gin"})


class _ImportRefused(ValueError):
    """An import line of a gin file that is not followed."""


@contextlib.contextmanager
def _imports_checked(allowed: bool) -> Iterator[None]:
    """Refuse imports from outside this package, wherever gin comes upon one: in an included file, or in a binding."""
    context = gin.config.ParseContext
    process_import = context.process_import

    def check(self, statement):
        # Dynamic registration lets a file call any function of what it imports, and of what that imports.
        if not allowed and statement.module.partition(".")[0] != "crome_jax":
            raise _ImportRefused(
                f"imports {statement.module}, which runs whatever is in there; take the line out, or pass "
                "--allow-gin-imports where you trust it"
            )
        process_import(self, statement)

    context.process_import = check
    try:
        yield
    finally:
        context.process_import = process_import


@contextlib.contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turn whatever gin raises into a CromeError that begins with `place`."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)  # Gin logs every folder in which a file is not.
    try:
        yield
    except CromeError:
        raise
    except Exception as e:  # ValueError, TypeError, SyntaxError, RuntimeError, OSError, tokenize's own, ...
        raise CromeError(f"{place}: {_explain(e, place)}") from e
    finally:
        logging.disable(disabled)


def _explain(error: Exception, place: str) -> str:
    if isinstance(error, SyntaxError):
        line = f"line {error.lineno} " if error.filename else ""
        problem = error.msg.partition(" on line")[0].partition("\n")[0].rstrip(".")
        return f"{line}is not gin syntax ({problem}); put text in quotes of its own, as in OUT = 'runs/x'"
    # What follows the first line repeats the binding, or prints the whole configuration.
    problem, _, rest = str(error).partition("\n")
    if required := re.match(r"(\S+) set to `%gin.REQUIRED`", problem):
        name = required[1].removesuffix("/macro.value")
        return f"{name} is required; pass --gin.{name}=VALUE"
    line = re.search(r'In file "(.*)", line (\d+)', rest)
    file = f"{line[1]}, " if line and line[1] != place else ""
    where = f"{file}line {line[2]}: " if line else ""
    if isinstance(error, _ImportRefused):
        return where + problem
    return f"{where}{problem.removesuffix(' in config string: ').rstrip('.')}; correct the name or the value"


def _check_types(name: str, signature: inspect.Signature, arguments: Mapping[str, Any]) -> None:
    for argument, value in arguments.items():
        annotation = signature.parameters[argument].annotation
        if not _fits(value, annotation):
            given = f"@{value.__name__}" if callable(value) else repr(value)
            wanted = inspect.formatannotation(float if annotation == ArrayLike else annotation)
            wanted = wanted.rpartition("crome_jax.")[2].replace("typing.", "")
            raise CromeError(f"{name}.{argument} is {given}, not {wanted}; correct the value")


def _fits(value: Any, annotation: Any) -> bool:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin in (tuple, collections.abc.Sequence):
        return isinstance(value, tuple | list) and all(_fits(item, inner[0]) for item in value)
    if origin is collections.abc.Callable:
        return callable(value)
    if origin is collections.abc.Mapping:
        return isinstance(value, Mapping) and all(_fits(item, inner[1]) for item in value.values())
    if annotation in (int, float):
        return isinstance(value, int if annotation is int else int | float) and not isinstance(value, bool)
    return isinstance(value, annotation) if inspect.isclass(annotation) else True


def _checked(function: Callable) -> Callable:
    """Wrap a function so that what gin binds is checked against its annotations."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        _check_types(function.__name__, signature, kwargs)
        return function(*args, **kwargs)

    call.__signature__ = signature
    return call


def _arguments_of(function: Callable) -> Callable[..., dict[str, Any]]:
    """Return a function of the same signature that returns what it is given.

    Gin configures this one: so what is wrong with a configuration shows before any work starts, and an error of the
    work itself is not mistaken for one of the configuration.
    """

    @functools.wraps(function)
    def arguments(**given):
        _check_types(function.__name__, inspect.signature(function), given)
        return given

    arguments.__signature__ = inspect.signature(function)
    return arguments


@functools.wraps(Method)
def _method(**choices: Any) -> Method:
    """Make a method that knows what gin calls its choices, for its errors."""
    own = gin.get_bindings("Method", resolve_references=False, inherit_scopes=False)
    choice = gin.get_bindings("Method", resolve_references=False).get("objective")
    objective = next(_references(choice), None)
    scopes = (gin.current_scope_str() if own else "", "/".join(objective.scopes) if objective else "")
    return Method(**choices, scopes=scopes)


_method.__signature__ = inspect.signature(Method)

OBJECTIVES = (bradley_terry, bsr, crome, davidson, mmd, odin, plackett_luce, rao_kupper)

_OF_RUNS = (Method, RowShape, Lora, adamw, linear, make_mesh, *OBJECTIVES)

for _function in (*_OF_RUNS, ChatSettings, Recipe):
    if _function is not Method:
        gin.external_configurable(
            _checked(_function), name=_function.__name__, denylist=["devices"] if _function is make_mesh else None
        )
gin.external_configurable(_checked(_method), name="Method", denylist=["scopes"])

_NOT_CONFIGURED = ("operative_config", "on_progress", "quarantine", "launched")
"""What whoever calls an entry gives it."""

_EXAMPLES = {
    train: "gin/runs/crome.gin",
    study: "gin/runs/quickstart.gin",
    sweep: "gin/sweeps/weights.gin",
    plan: "gin/plans/gemma2_9b_v5e_64.gin",
}
"""A gin file that gives all of it; `augmentation` needs none."""

_PASSED = {
    (train, "adamw", "steps"): "train.steps",
    (study, "adamw", "steps"): "study.steps",
    (study, "adamw", "learning_rate"): "study.learning_rates",
}
"""Arguments that a function gives to what it calls, over any binding, and what to bind for each."""

_ENTRIES = {
    function: gin.external_configurable(
        _arguments_of(function),
        name=function.__name__,
        denylist=[name for name in _NOT_CONFIGURED if name in inspect.signature(function).parameters],
    )
    for function in (augmentation, plan, study, sweep, train)
}
