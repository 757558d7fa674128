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
_ANSWERS = (
    "for {name} we have {x} {op} {y} = {r}, which makes {r} {things}",
    "{x} {op} {y} = {r}, so {name} ends up with {r} {things}",
    "{name} starts with {x}, and {x} {op} {y} = {r} {things}",
)


@dataclasses.dataclass(frozen=True)
class Story:
    """One person's problem: an amount that grows or shrinks."""

    start: int
    op: str
    change: int

    @property
    def result(self) -> int:
        """What it comes to."""
        return self.start + self.change if self.op == "+" else self.start - self.change

    @property
    def is_small(self) -> bool:
        """Whether every number that is said is between 1 and 20."""
        return all(1 <= n <= _LARGEST for n in (self.start, self.change, self.result))


def draw_stories(rng: random.Random, lowered: Collection[str]) -> Contrast:
    """Draw problems of one step about several people, asking for some; lowers correct, complete or on_topic.

    Incorrect is an answer that starts every sum from a number misread and works it out rightly. Off topic is one about
    the one person who was not asked about; incomplete, one that gives that person's number in place of another's.
    """
    people = rng.sample(NAMES, 2 if "on_topic" in lowered else 3)
    *asked, spare = people
    things = rng.choice(_THINGS)
    twins = {name: _draw_twins(rng) for name in people}
    given = (spare,) if "on_topic" in lowered else (asked[0], spare) if "complete" in lowered else tuple(asked)
    right, misread = ({name: pair[i] for name, pair in twins.items()} for i in range(2))
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


def _draw_twins(rng: random.Random) -> tuple[Story, Story]:
    """Draw a story and its twin, which starts from another number; either could as well have been the other."""
    while True:
        story = Story(rng.randint(1, _LARGEST), rng.choice("+-"), rng.randint(1, 9))
        twin = dataclasses.replace(story, start=story.start + rng.choice(_MOVES))
        # Bounds that hold for both keep the draw symmetric: the twin's twin is the story.
        if story.is_small and twin.is_small:
            return story, twin


def _told(rng: random.Random, name: str, story: Story, things: str) -> str:
    """Return the story as the prompt tells it."""
    beginning = rng.choice(_STARTS).format(name=name, n=story.start, things=things)
    return sentence(f"{beginning} and {rng.choice(_CHANGES[story.op]).format(n=story.change)}")


def _solutions(rng: random.Random, things: str, stories: dict[str, Story]) -> tuple[str, ...]:
    """Return one sentence for each person, and one before it where there is a single person."""
    clauses = []
    for name in shuffled(rng, tuple(stories)):
        story = stories[name]
        sum_ = {"x": story.start, "op": story.op, "y": story.change, "r": story.result}
        words = {"name": name, "things": things, **sum_}
        if len(stories) == 1:
            clauses.append(rng.choice(_BEGINNINGS).format(**words))
        clauses.append(rng.choice(_ANSWERS).format(**words))
    return tuple(map(sentence, clauses))


def _do(people: Sequence[str]) -> str:
    return "does" if len(people) == 1 else "do"
