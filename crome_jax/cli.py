"""The command line: one verb per stage. Each parses its flags, and calls one function."""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from crome_jax.errors import CromeError, NotTogether, Preempted
from crome_jax.verbs.gin_flags import split_bindings
from crome_jax.verbs.jax_settings import set_up_jax

VERBS = {
    "testbed": "write the causal testbed: preference data whose causal graph is known",
    "augment": "add causal and neutral comparisons to preference data",
    "train": "train a reward model; the same command again resumes it",
    "evaluate": "measure trained reward models, and write a report",
    "score": "write the reward of every response",
    "best_of_n": "measure what a reward model picks from N candidates",
    "diagnose": "say what a reward model rewards: causal effects of attributes",
    "report": "put evaluated runs side by side",
    "export": "write a trained reward model as a Hugging Face folder",
    "plan": "compile a training step for TPU chips that are not there: does it fit, how fast, at what cost",
    "study": "train several methods on the same data, and write one report",
    "sweep": "train over a grid of settings and seeds, and rank them; the same command resumes",
}
"""What each verb does; its flags and its work are in the module of `crome_jax.verbs` with its name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        argv: what follows the command's name; None takes it from the process, whose JAX is then set up, too.

    Returns:
        0; 1 where a plan does not fit; 2 after an error that the user can mend, told on stderr; 130 after Ctrl-C; 141
        where whoever reads the output went away; 143 where a run was saved after SIGTERM. A process of several ends by
        itself: with 2 after such an error of its own, with 3 where another process of the run is gone or did not come.
    """
    arguments, bindings = split_bindings(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    args = parser.parse_args(arguments)
    if not hasattr(args, "gin_file") and bindings:
        parser.error(f"crome {args.verb} takes no gin bindings (--gin.{bindings[0].name})")
    args.bindings = bindings
    # What a launch script starts on another machine is not to inherit what was found on this one.
    if argv is None and getattr(args, "submit", None) is None:
        set_up_jax(args.verb, os.environ)
    try:
        status = args.run(args)
        if sys.stdout is not None:  # It is None where it was closed before the program began.
            sys.stdout.flush()
    except Preempted as e:
        _say(e)
        return 143
    except CromeError as e:
        # What a function raises that gin configured has a postscript with the function's address.
        message = str(e).partition("\n  In call to configurable")[0]
        _say(f"error: {message}")
        return 3 if isinstance(e, NotTogether) else 2
    except ImportError as e:
        if "gcsfs" not in str(e):
            raise
        print("crome: error: a bucket (gs://) needs one package more; run ./launch/setup.sh gcs", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("crome: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more when it exits, which would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status or 0


def _say(message: object) -> None:
    with contextlib.suppress(OSError):  # Where the disk is full, that of the log may be, too: the status tells as well.
        print(f"crome: {message}", file=sys.stderr)


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of all verbs; what a verb needs to run is not imported for it."""
    parser = argparse.ArgumentParser(
        prog="crome",
        description="Causally robust reward models (Crome): from preference data to an evaluated reward model.",
        epilog="`crome VERB --help` explains the flags of a verb.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, summary in VERBS.items():
        verb = importlib.import_module(f"crome_jax.verbs.{name}")
        description, _, epilog = verb.__doc__.partition("\n\n")
        subparser = verbs.add_parser(
            name,
            help=summary,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.add_flags(subparser)
        subparser.set_defaults(run=verb.run)
    return parser
