"""Small word problems with the steps shown; no number exceeds 20.

Every wrong number is the right one of a *twin*: the same problem with one number moved. Problem and twin are equally
likely to be drawn, so no number, and no pair of neighbouring words, is wrong more often than it is right.
"""

import dataclasses
import random
from collections.abc import Collection, Sequence

from crome_jax.data.datasets.testbed.contrast import NAMES, Contrast, listing, sentence, shuffled, wordings

_LARGEST = 20
_MOVES = (-3, -2, -1, 1, 2, 3)

_THINGS = (
    "apples", "pencils", "marbles", "stickers", "shells", "coins", "cards", "buttons", "books", "stamps", "pears",
    "eggs", "beads", "candles", "tickets", "balloons", "cups", "stones", "ribbons", "nuts",
)  # fmt: skip
_STARTS = ("{name} has {n} {things}", "{name} owns {n} {things}", "{name} starts the day with {n} {things}")
_CHANGES = {
    "+": ("gets {n} more", "finds {n} more", "buys another {n}", "is given {n} more"),
    "-": ("gives away {n}", "loses {n}", "sells {n}", "hands over {n}"),
}
_SHOW = ("Please show the steps.", "Show how you work it out.", "Explain each step.", "Please show your working.")
_BEGINNINGS = ("{name} has {x} {things} to begin with", "the number of {things} {name} starts with is {x}")
_FIRST = ("first, {x} {op} {y} = {r}", "step one: {x} {op} {y} = {r}", "the first change gives {x} {op} {y} = {r}")
_THEN = ("then {x} {op} {y} = {r}", "step two: {x} {op} {y} = {r}", "the second change gives {x} {op} {y} = {r}")
_FINALS = (
    "so {name} has {r} {things} in the end",
    "the answer is {r} {things} for {name}",
    "that leaves {name} with {r} {things}",
)
_ANSWERS = (
    "for {name} we have {x} {op} {y} = {r}, which makes {r} {things}",
    "{x} {op} {y} = {r}, so {name} ends up with {r} {things}",
    "{name} starts with {x}, and {x} {op} {y} = {r} {things}",
)


@dataclasses.dataclass(frozen=True)
class Change:
    """A number that grows or shrinks: x op y."""

    x: int
    op: str
    y: int

    @property
    def result(self) -> int:
        """What x op y comes to."""
        return self.x + self.y if self.op == "+" else self.x - self.y


@dataclasses.dataclass(frozen=True)
class Story:
    """One person's problem: an amount, and one or two changes of it."""

    start: int
    changes: tuple[tuple[str, int], ...]

    @property
    def steps(self) -> tuple[Change, ...]:
        """The changes in order, each beginning with the result of the one before."""
        steps, now = [], self.start
        for op, amount in self.changes:
            steps.append(Change(now, op, amount))
            now = steps[-1].result
        return tuple(steps)

    @property
    def is_small(self) -> bool:
        """Whether every number that is said is between 1 and 20."""
        numbers = [self.start, *(n for step in self.steps for n in (step.y, step.result))]
        return all(1 <= n <= _LARGEST for n in numbers)


def draw_two_steps(rng: random.Random, lowered: Collection[str]) -> Contrast:
    """Draw a problem of two steps beside another person's number; lowers correct.

    The error is a slip in the first or the second step, a final answer that contradicts the steps, or a start from
    the other person's number.
    """
    name, other = rng.sample(NAMES, 2)
    words = {"name": name, "things": rng.choice(_THINGS)}
    error = rng.choice(("first step", "second step", "final answer", "start"))
    moved = "start" if error in ("first step", "start") else "last change"
    story, twin = _draw_twins(rng, changes=2, moved=moved)
    (first, second), (twin_first, twin_second) = story.steps, twin.steps
    right = (first.x, (first, first.result), (second, second.result), second.result)
    wrong = {
        "first step": (first.x, (first, twin_first.result), (twin_second, twin_second.result), twin_second.result),
        "second step": (first.x, (first, first.result), (second, twin_second.result), twin_second.result),
        "final answer": (first.x, (first, first.result), (second, second.result), twin_second.result),
        "start": (twin.start, (twin_first, twin_first.result), (twin_second, twin_second.result), twin_second.result),
    }[error]

    others = twin.start if moved == "start" else rng.randint(1, _LARGEST)
    told = [_told(rng, name, story, words["things"])]
    aside = sentence(rng.choice(_STARTS).format(name=other, n=others, things=words["things"]))
    told.insert(rng.randrange(2), aside)
    question = f"How many {words['things']} does {name} have at the end? {rng.choice(_SHOW)}"
    chosen_words, rejected_words = wordings(rng)
    return Contrast(
        template="two_steps",
        prompt=" ".join([*told, question]),
        chosen=_worked(chosen_words, words, *right),
        rejected=_worked(rejected_words, words, *wrong),
        lowered=tuple(lowered),
    )


def draw_stories(rng: random.Random, lowered: Collection[str]) -> Contrast:
    """Draw problems of one step about several people, asking for some; lowers correct, complete or on_topic.

    Incorrect is an answer that starts every sum from a number misread and works it out rightly. Off topic is one about
    the one person who was not asked about; incomplete, one that gives that person's number in place of another's.
    """
    people = rng.sample(NAMES, 2 if "on_topic" in lowered else 3)
    *asked, spare = people
    things = rng.choice(_THINGS)
    twins = {name: _draw_twins(rng, changes=1, moved="start") for name in people}
    given = (spare,) if "on_topic" in lowered else (asked[0], spare) if "complete" in lowered else tuple(asked)
    right, misread = ({name: pair[i].steps[0] for name, pair in twins.items()} for i in range(2))
    told = misread if "correct" in lowered else right

    stories = [_told(rng, name, twins[name][0], things) for name in shuffled(rng, people)]
    question = f"How many {things} {_do(asked)} {listing(shuffled(rng, asked))} have now?"
    chosen_words, rejected_words = wordings(rng)
    return Contrast(
        template="stories",
        prompt=" ".join([*stories, question, rng.choice(_SHOW)]),
        chosen=_solutions(chosen_words, things, {name: right[name] for name in asked}),
        rejected=_solutions(rejected_words, things, {name: told[name] for name in given}),
        lowered=tuple(lowered),
    )


def _draw_twins(rng: random.Random, changes: int, moved: str) -> tuple[Story, Story]:
    """Draw a story and its twin, either of which could as well have been the other.

    Args:
        moved: where the twin differs, "start" or "last change".
    """
    while True:
        story = Story(rng.randint(1, _LARGEST), tuple((rng.choice("+-"), rng.randint(1, 9)) for _ in range(changes)))
        move = rng.choice(_MOVES)
        if moved == "start":
            twin = dataclasses.replace(story, start=story.start + move)
        else:
            op, amount = story.changes[-1]
            twin = dataclasses.replace(story, changes=(*story.changes[:-1], (op, amount + move)))
        # Bounds that hold for both keep the draw symmetric: the twin's twin is the story.
        if story.is_small and twin.is_small and all(amount <= 9 for _, amount in twin.changes):
            return story, twin


def _told(rng: random.Random, name: str, story: Story, things: str) -> str:
    """Return the story as the prompt tells it."""
    changes = [rng.choice(_CHANGES[op]).format(n=amount) for op, amount in story.changes]
    beginning = rng.choice(_STARTS).format(name=name, n=story.start, things=things)
    later = [sentence(f"later {name} {change}") for change in changes[1:]]
    return " ".join([sentence(f"{beginning} and {changes[0]}"), *later])


def _worked(
    rng: random.Random,
    words: dict[str, str],
    start: int,
    first: tuple[Change, int],
    second: tuple[Change, int],
    final: int,
) -> tuple[str, ...]:
    """Return an answer in steps; each step is a change with the result the answer claims."""
    clauses = [rng.choice(_BEGINNINGS).format(x=start, **words)]
    for pool, (step, claimed) in ((_FIRST, first), (_THEN, second)):
        clauses.append(rng.choice(pool).format(x=step.x, op=step.op, y=step.y, r=claimed))
    clauses.append(rng.choice(_FINALS).format(r=final, **words))
    return tuple(map(sentence, clauses))


def _solutions(rng: random.Random, things: str, steps: dict[str, Change]) -> tuple[str, ...]:
    """Return one sentence for each person, and one before it where there is a single person."""
    clauses = []
    for name in shuffled(rng, tuple(steps)):
        step = steps[name]
        words = {"name": name, "things": things, "x": step.x, "op": step.op, "y": step.y, "r": step.result}
        if len(steps) == 1:
            clauses.append(rng.choice(_BEGINNINGS).format(**words))
        clauses.append(rng.choice(_ANSWERS).format(**words))
    return tuple(map(sentence, clauses))


def _do(people: Sequence[str]) -> str:
    return "does" if len(people) == 1 else "do"
