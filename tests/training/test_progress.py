import io

import pytest

from crome_jax.training import progress
from crome_jax.training.loop import progress_facts
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


def advance(bar: Progress, clock: Clock, seconds: float, *done: int, facts: tuple[str, ...] = ()):
    for number in done:
        clock.now += seconds
        bar.update(number, *facts)


def test_a_log_gets_a_line_now_and_then_and_the_last(clock):
    log = io.StringIO()
    bar = Progress("train", 100, stream=log)
    advance(bar, clock, 1.0, *range(1, 101), facts=("loss 0.5",))
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
    advance(bar, clock, 1.0, 1, 2, 3, facts=("x" * 60,))
    bar.close()
    first, *shown = terminal.getvalue().split("\r\x1b[K")
    assert first == ""
    assert len(shown) == 3
    assert all(line.startswith("score: row ") and len(line.rstrip("\n")) == 39 for line in shown)
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("\n")


KINDS = {"human/accuracy": 0.712, "causal/accuracy": 0.654, "neutral/distance": 0.1234}


@pytest.mark.parametrize("job", ["train", "bradley_terry, learning rate 0.0005"])
@pytest.mark.parametrize(
    ("steps", "tokens", "pairs", "kinds", "said"),
    [
        (500, 12345, 12.34, KINDS, "12.3k tok/s  12.3 pair/s  loss 0.693  H71% C65% N0.12"),
        (175, 850, 1.6, {"human/accuracy": 1.0}, "850 tok/s  1.6 pair/s  loss 0.693  H100%"),
        (500_000, 999_960, 1234, KINDS, "1M tok/s 1.23k pair/s loss 0.693 H71% C65% N0.12"),
    ],
)
def test_a_terminal_of_80_columns_has_room_for_all_that_training_tells(
    clock, monkeypatch, job, steps, tokens, pairs, kinds, said
):
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    bar = Progress(job, steps, stream=terminal)
    facts = progress_facts({"loss": 0.6931, **kinds}, {"tokens/s": tokens, "pairs/s": pairs})
    seconds = 3723 / 8  # Twice that for a fifth, four times as much for the rest.
    advance(bar, clock, seconds, steps // 10, steps // 5, facts=facts)
    first, *shown = terminal.getvalue().split("\r\x1b[K")
    assert (first, shown[0]) == ("", f"{job}, {steps} steps:\n")
    assert len(shown) == 3
    assert all(len(line) < 80 for line in shown[1:])
    assert shown[2].split()[:3] == [f"{steps // 5}/{steps}", "1:02:03", "left"]
    assert shown[2].endswith(said)


def test_a_terminal_wide_enough_and_a_log_get_the_words(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    facts = progress_facts({"loss": 0.6931, **KINDS}, {"tokens/s": 12345, "pairs/s": 12.34})
    for stream in (Terminal(), io.StringIO()):
        bar = Progress("train", 500, stream=stream, every=1.0)
        advance(bar, clock, 60.0, 100, facts=facts)
        told = "12,345 tokens/s  12.3 pairs/s  loss 0.693  human 71%  causal 65%  neutral |d| 0.12"
        assert stream.getvalue().strip("\r\x1b[K\n") == f"train: step 100/500  4:00 left  {told}"


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
