import io

import pytest

from crome_jax.training import progress
from crome_jax.training.progress import Progress


class Clock:
    """A clock that only moves when told."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def advance(bar: Progress, clock: Clock, seconds: float, *done: int, facts: str = ""):
    for number in done:
        clock.now += seconds
        bar.update(number, facts)


def test_a_log_gets_a_line_now_and_then_and_the_last(clock):
    log = io.StringIO()
    bar = Progress("train", 100, stream=log)
    advance(bar, clock, 1.0, *range(1, 101), facts="loss 0.5")
    bar.close()
    lines = log.getvalue().splitlines()
    assert lines[0] == "train: step 15/100  1:25 left  loss 0.5"
    assert [line.split()[2] for line in lines] == [*(f"{n}/100" for n in range(15, 101, 15)), "100/100"]
    assert lines[-1].endswith("0:00 left  loss 0.5")
    assert "\r" not in log.getvalue()


def test_a_terminal_gets_one_line_rewritten_and_ended(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    bar = Progress("score", 3, "row", stream=terminal)
    advance(bar, clock, 1.0, 1, 2, 3, facts="x" * 60)
    bar.close()
    first, *shown = terminal.getvalue().split("\r\x1b[K")
    assert first == ""
    assert len(shown) == 3
    assert all(line.startswith("score: row ") and len(line.rstrip("\n")) == 39 for line in shown)
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("\n")


def test_a_terminal_is_not_flooded(clock):
    terminal = Terminal()
    bar = Progress("score", 1000, stream=terminal)
    advance(bar, clock, 0.01, *range(1, 1000))
    assert terminal.getvalue().count("\r") <= 101


def test_nothing_said_leaves_no_empty_line(clock):
    for stream in (io.StringIO(), Terminal()):
        Progress("train", 10, stream=stream).close()
        assert stream.getvalue() == ""


@pytest.mark.parametrize(("before", "stride"), [(0, 1), (0, 8), (800, 1), (800, 8)])
def test_time_left_is_by_the_speed_of_this_process(clock, before, stride):
    log = io.StringIO()
    bar = Progress("train", 1600, stream=log, every=0.0, done=before)
    advance(bar, clock, 2.0 * stride, *range(before + stride, 1600, stride))
    for line in log.getvalue().splitlines():
        done = int(line.split()[2].split("/")[0])
        hours, minutes, seconds = ([0] + [int(n) for n in line.split()[-2].split(":")])[-3:]
        assert hours * 3600 + minutes * 60 + seconds == 2 * (1600 - done)
