"""One live line on a terminal, one line now and then in a log."""

import shutil
import sys
import time
from typing import TextIO


class Progress:
    """Say how far a long job is, how fast it goes and how long it will take.

    Args:
        job: its name, first on the line.
        total: how many units make the whole.
        unit: what is counted.
        stream: stderr unless told otherwise, so that it mixes with no output.
        every: seconds between two lines where the stream is no terminal.
        done: units done before, by a run that this one resumes; they say nothing about its speed.
        silent: say nothing: of several processes one talks.
    """

    def __init__(
        self,
        job: str,
        total: int,
        unit: str = "step",
        stream: TextIO | None = None,
        every: float = 15.0,
        done: int = 0,
        silent: bool = False,
    ):
        self._job, self._total, self._unit = job, total, unit
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._every = 0.1 if self._live else every
        self._start = self._said = time.monotonic()
        self._before = self._done = done
        self._open = False
        self._silent = silent
        self._named = False

    def update(self, done: int, facts: str = "", short: str = "") -> None:
        """Show `done` of the total, time left, and further facts; silent when the last line is too recent.

        Args:
            short: the same facts for a terminal that is too narrow for the line; the job then has a line of its own.
        """
        now = time.monotonic()
        if self._silent or (now - self._said < self._every and done < self._total):
            return
        self._said = now
        elapsed = now - self._start
        left = elapsed / max(done - self._before, 1) * (self._total - done)
        place = f"{done}/{self._total}  {_clock(left)} left"
        line = f"{self._job}: {self._unit} {place}  {facts}".rstrip()
        if self._live:
            line = self._fitted(line, f"{place}  {short}" if short else line)
        self._stream.write(f"\r\x1b[K{line}" if self._live else line + "\n")
        self._stream.flush()
        self._open = self._live

    def _fitted(self, line: str, short: str) -> str:
        """Return the line, or the short one, as far as it fits: one that wraps could not be overwritten."""
        room = shutil.get_terminal_size().columns - 1
        if len(line) > room and short != line and not self._named:
            self._stream.write(f"\r\x1b[K{self._job}, {self._total} {self._unit}s:\n")
            self._named = True
        if self._named:
            line = short if len(short) <= room else short.replace("  ", " ")
        return line[:room]

    def advance(self, by: int, facts: str = "") -> None:
        """Show that so many more units are done."""
        self._done += by
        self.update(self._done, facts)

    def close(self) -> None:
        """End the live line."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
