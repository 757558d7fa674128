"""What --gin.NAME=VALUE can set: every argument of what a verb configures, with its default and what it means."""

import argparse
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any


class ShowGinArguments(argparse.Action):
    """Prints the arguments that a verb's gin files can bind, and ends, as --help does."""

    def __init__(self, option_strings: list[str], dest: str, **further: Any):
        super().__init__(option_strings, dest, nargs=0, **further)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print, and end with status 0."""
        from crome_jax.configuration import configurables

        print("\n\n".join(explain(function) for function in configurables(parser.prog.rpartition(" ")[2])))
        parser.exit()


_GIVEN = (
    *("operative_config", "settings", "on_progress", "quarantine", "launched"),  # By a verb.
    *("scored", "batch"),  # To an objective, by the step.
    "devices",
    "scopes",  # To a method, by gin's own.
)


def explain(function: Callable, width: int = 100) -> str:
    """Lay out the arguments of a function, or fields of a dataclass: one paragraph each, with its default."""
    said = meanings(function)
    lines = [f"{function.__name__}: {(inspect.getdoc(function) or '').partition(chr(10))[0]}"]
    for name, parameter in _bindable(function):
        default = "required" if parameter.default is inspect.Parameter.empty else _shown(parameter.default)
        text = f"--gin.{function.__name__}.{name} ({default}): {said.get(name, '')}".rstrip(": ")
        lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
    return "\n".join(lines)


def meanings(function: Callable) -> dict[str, str]:
    """Return what its docstring says of each argument, or that of the class whose fields it takes."""
    made = inspect.signature(function).return_annotation
    docs = (made if inspect.isclass(made) else None, function)
    return {name: text for source in docs if source for name, text in explained(inspect.getdoc(source) or "").items()}


def explained(doc: str) -> dict[str, str]:
    """Return what a docstring's Args section says of each argument; those explained together have the same text."""
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)*)", doc, re.MULTILINE)
    said: dict[str, str] = {}
    names: list[str] = []
    for line in section[1].splitlines() if section else ():
        if start := re.match(r"[ ]{4}([\w*][\w*, ]*): (.*)", line):
            names, text = [name.strip("* ") for name in start[1].split(",")], start[2]
            said |= dict.fromkeys(names, text)
        elif line.strip():
            said |= {name: f"{said[name]} {line.strip()}" for name in names}
    return said


def _bindable(function: Callable) -> Iterable[tuple[str, inspect.Parameter]]:
    """Return the arguments that a gin file may give."""
    return [(name, p) for name, p in inspect.signature(function).parameters.items() if name not in _GIVEN]


def _shown(default: Any) -> str:
    """Return a default as a gin file would spell it."""
    return f"@{default.__name__}" if callable(default) else re.sub(r"<function (\w+) at 0x\w+>", r"@\1", repr(default))
