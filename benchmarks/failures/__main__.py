"""Kill a run again and again, damage what it saved, and see whether it ends where an undisturbed one does, to the bit.

  .venv/bin/python -m benchmarks.failures --kills 50     # writes benchmarks/failures.md
  .venv/bin/python -m benchmarks.failures --soak 60      # writes benchmarks/soak.md

Exits with status 1 where the runs differ, damage was not seen, or memory grew by 2% or more. Needs Linux.
"""

import argparse
import datetime
import os
import platform
import sys
import tempfile
from pathlib import Path

import jax

from benchmarks.failures.campaign import run_campaign
from benchmarks.failures.soak import SAVE_EVERY, run_soak
from benchmarks.failures.victim import ROOT, write_data
from crome_jax.files import whole_output


def page(title: str, told: str, command: str, facts: dict[str, str | int]) -> str:
    """Return a page of results."""
    machine = {
        "date": str(datetime.date.today()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}",
    }
    rows = "".join(f"| {name} | {value} |\n" for name, value in (machine | facts).items())
    return (
        f"# {title}\n\n{told}\nMade by `.venv/bin/python -m benchmarks.failures {command}`.\n\n| | |\n|---|---|\n{rows}"
    )


def sections(path: Path) -> str:
    """Return the sections of a page, which are written by hand and stay when the page is written anew."""
    text = path.read_text() if path.exists() else ""
    return text[text.index("\n## ") :] if "\n## " in text else ""


def main() -> int:
    """Run the campaign or the soak, and write its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how often the run is killed (default: %(default)s)")
    parser.add_argument("--soak", type=float, default=0, help="minutes of one fault each, instead (default: none)")
    parser.add_argument(
        "--save-every", type=int, default=SAVE_EVERY, help="steps between saves in the soak (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=1000, help="steps of the killed run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and damage (default: %(default)s)")
    parser.add_argument("--page", type=Path, help="where results go (default: failures.md or soak.md in benchmarks/)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crome-failures-") as folder:
        data = Path(folder) / "pairs.jsonl"
        write_data(data)
        if args.soak:
            name, tally = "soak", run_soak(data, args.soak, args.seed, save_every=args.save_every)
            command = f"--soak {args.soak:g} --save-every {args.save_every}"
            told = f"A run of a tiny model that saves every {args.save_every} steps and meets a fault every minute."
        else:
            name, tally = "failures", run_campaign(data, args.steps, args.kills, args.seed)
            command = f"--kills {args.kills} --steps {args.steps}"
            told = "A run of a tiny model that is killed and damaged while it trains, beside one left alone."
    out = args.page or ROOT / "benchmarks" / f"{name}.md"
    with whole_output(out, overwrite=True) as partial:
        partial.write_text(page(name.capitalize(), told, command, tally.facts()) + sections(out))
    print(out.read_text())
    return 0 if tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
