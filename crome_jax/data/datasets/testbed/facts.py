"""Questions about facts the prompt states: prices, times, places, who brings what.

A table assigns values to three entities; the prompt lists them and asks for two by name. Which value belongs to which
entity, which two are asked for, and what takes a value's place in a wrong answer are drawn anew each time, so no word
of an answer is wrong more often than another.
"""

import dataclasses
import random
from collections.abc import Collection

from crome_jax.data.datasets.testbed.contrast import NAMES, Contrast, listing, sentence, shuffled, wordings


@dataclasses.dataclass(frozen=True)
class Table:
    """One kind of fact, with its vocabulary; `{e}` stands for the entity and `{v}` for the value.

    Args:
        entities, values: what three and five of are drawn for a question.
        intros: how the prompt leads to the list of facts.
        fact: a clause of that list.
        answers: clauses that state a fact in other words, as a response does.
        wanted: the indirect question about one entity; the prompt joins two.
    """

    name: str
    entities: tuple[str, ...]
    values: tuple[str, ...]
    intros: tuple[str, ...]
    fact: str
    answers: tuple[str, ...]
    wanted: str


_THINGS = ("lamp", "mug", "rug", "chair", "clock", "vase", "kettle", "mirror", "basket", "pillow", "blanket", "tray",
           "candle", "radio", "bowl", "frame")  # fmt: skip
_PLACES = ("library", "bakery", "museum", "pool", "market", "pharmacy", "post office", "town hall", "zoo", "gym",
           "bank", "florist", "bookshop", "garage")  # fmt: skip
_HOURS = ("six", "seven", "eight", "nine", "ten", "eleven")

TABLES = (
    Table(
        "prices",
        tuple(f"the {thing}" for thing in _THINGS),
        tuple(f"{euros} euros" for euros in range(3, 21)),
        ("This is the price list of our little shop.", "I noted some prices at the flea market."),
        "{e} costs {v}",
        ("you would pay {v} for {e}", "the price of {e} is {v}", "they ask {v} for {e}"),
        "what {e} costs",
    ),
    Table(
        "hours",
        tuple(f"the {place}" for place in _PLACES),
        tuple(f"{past}{hour}" for hour in _HOURS for past in ("", "half past ", "quarter past ")),
        ("These are the opening times in our town.", "I wrote down when the doors open in the morning."),
        "{e} opens at {v}",
        ("you can get into {e} from {v}", "{v} is when {e} lets people in", "from {v} on, {e} is open"),
        "when {e} opens",
    ),
    Table(
        "dishes",
        NAMES,
        ("the soup", "the bread", "the salad", "the cheese", "the apple pie", "the lemonade", "the pasta", "the rice",
         "the olives", "the cookies", "the fruit", "the pancakes", "the curry", "the coffee"),
        ("We are planning a dinner with friends.", "Our street is having a picnic on Sunday."),
        "{e} brings {v}",
        ("{v} will come from {e}", "you can expect {v} from {e}", "{e} takes care of {v}"),
        "what {e} brings",
    ),
    Table(
        "places",
        ("the torch", "the passport", "the spare key", "the tape measure", "the camera", "the umbrella", "the map",
         "the charger", "the sewing kit", "the whistle", "the notebook", "the hammer", "the wallet", "the chessboard"),
        ("in the kitchen drawer", "under the stairs", "on the top shelf", "in the blue box", "behind the door",
         "in the hall cupboard", "on the desk", "in the attic", "next to the sofa", "in the red suitcase",
         "below the window", "in the glove box", "on the piano", "in the garden shed"),
        ("I have just tidied the whole house.", "Before you move in, here is where I left some things."),
        "{e} is {v}",
        ("you should look {v} for {e}", "you will find {e} {v}", "{e} was put {v}"),
        "where {e} is",
    ),
    Table(
        "classes",
        ("the pottery class", "the choir", "the chess club", "the yoga class", "the book circle", "the drama group",
         "the dance class", "the first-aid course", "the Spanish course", "the running group", "the coding club",
         "the cooking class"),
        tuple(f"{day} {time}" for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
              for time in ("morning", "evening")),
        ("The community centre has a new timetable.", "I am looking at the club notice board."),
        "{e} meets on {v}",
        ("{v} is the time of {e}", "you should go on {v} for {e}", "they hold {e} on {v}"),
        "when {e} meets",
    ),
    Table(
        "clothes",
        NAMES,
        ("a red coat", "a green scarf", "a yellow hat", "a blue jacket", "a white shirt", "a grey cap", "a black dress",
         "a purple sweater", "a brown vest", "an orange raincoat", "a pink tie", "a striped skirt"),
        ("I am describing a photo of my colleagues.", "You will meet some friends of mine at the station."),
        "{e} wears {v}",
        ("the one in {v} is {e}", "you will see {e} in {v}", "look for {v} to spot {e}"),
        "what {e} wears",
    ),
    Table(
        "chores",
        NAMES,
        ("the cooking", "the driving", "the shopping", "the dishes", "the laundry", "the music", "the invitations",
         "the tickets", "the photos", "the first aid", "the luggage", "the budget", "the tents", "the cleaning"),
        ("Our group shares the work on this trip.", "We made a plan for the summer camp."),
        "{e} does {v}",
        ("{v} is the job of {e}", "you can count on {e} for {v}", "{e} is in charge of {v}"),
        "what {e} does",
    ),
    Table(
        "trains",
        tuple(f"the train to {city}" for city in ("Oslo", "Lisbon", "Vienna", "Prague", "Naples", "Zurich", "Bergen",
                                                  "Krakow", "Seville", "Dublin", "Lyon", "Antwerp", "Turin", "Basel")),
        tuple(f"platform {number}" for number in range(1, 19)),
        ("I can read the departure board from here.", "The station changed its platforms this week."),
        "{e} leaves from {v}",
        ("go to {v} for {e}", "you can board {e} at {v}", "{v} is right for {e}"),
        "where {e} leaves",
    ),
    Table(
        "pets",
        NAMES,
        ("a parrot", "a hamster", "a tortoise", "a beagle", "a goat", "a pony", "a rabbit", "a snake", "a canary",
         "a goldfish", "a ferret", "a donkey", "a poodle", "a Siamese cat"),
        ("Everyone in our class has an animal at home.", "My neighbours all keep animals."),
        "{e} keeps {v}",
        ("there is {v} at the home of {e}", "{v} lives with {e}", "{e} looks after {v}"),
        "which animal {e} has",
    ),
)  # fmt: skip

_ASK = ("Could you tell me {wanted}?", "Please tell me {wanted}.", "Can you write down {wanted} for me?")
_NEW = ("One thing has changed since: {fact} now.", "Wait, I have to correct that: {fact}.")
_OLD = ("A week ago it was still {old} for {e}, but no longer.", "For {e} somebody told me {old}, which is wrong.")
_LEADS = ("", "", "here is what you asked for", "this is what your message says", "I went through your message")


def draw_facts(rng: random.Random, lowered: Collection[str]) -> Contrast:
    """Draw a question for two of three facts; lowers correct, complete, or both.

    Incorrect are two values, neither of which the prompt holds, or one of which is that of the third fact. Incomplete
    is an answer that gives the third fact in place of one asked for.
    """
    return _draw(rng, lowered, changed=False)


def draw_changed_facts(rng: random.Random, lowered: Collection[str]) -> Contrast:
    """Draw the same with a trap: one fact comes with an outdated value, before or after the valid one.

    The incorrect answer gives that one, and a value that the prompt does not hold for the other fact.
    """
    return _draw(rng, lowered, changed=True)


def _draw(rng: random.Random, lowered: Collection[str], changed: bool) -> Contrast:
    table = rng.choice(TABLES)
    entities, values = rng.sample(table.entities, 3), rng.sample(table.values, 5)
    first, second, spare = entities
    truth, outdated = dict(zip(entities, values, strict=False)), values[3]

    told = dict(truth)
    if "correct" in lowered:
        strange = tuple(values[3:])
        wrong = strange if changed else rng.choice((strange, (truth[spare], strange[1])))
        told[first], told[second] = wrong
    given = (first, spare) if "complete" in lowered else (first, second)

    trap = first if "correct" in lowered else rng.choice(entities)
    sentences = _listed(rng, table, truth, (trap, outdated) if changed else None)
    wanted = listing([table.wanted.format(e=e) for e in shuffled(rng, (first, second))])
    question = rng.choice(_ASK).format(wanted=wanted)
    chosen_words, rejected_words = wordings(rng)
    return Contrast(
        template=f"{'changed_facts' if changed else 'facts'}/{table.name}",
        prompt=" ".join([rng.choice(table.intros), *sentences, question]),
        chosen=_answer(chosen_words, table, truth, (first, second)),
        rejected=_answer(rejected_words, table, told, given),
        lowered=tuple(lowered),
    )


def _listed(
    rng: random.Random, table: Table, truth: dict[str, str], outdated: tuple[str, str] | None
) -> tuple[str, ...]:
    """Return the prompt's sentences of fact, with an outdated value corrected or mentioned."""
    shown, remark = dict(truth), ()
    if outdated:
        entity, old = outdated
        if rng.random() < 0.5:
            shown[entity] = old
            remark = (rng.choice(_NEW).format(fact=table.fact.format(e=entity, v=truth[entity])),)
        else:
            remark = (rng.choice(_OLD).format(old=old, e=entity),)
    facts = [table.fact.format(e=e, v=shown[e]) for e in shuffled(rng, tuple(shown))]
    return (sentence(listing(facts)), *remark)


def _answer(rng: random.Random, table: Table, told: dict[str, str], given: tuple[str, ...]) -> tuple[str, ...]:
    lead = rng.choice(_LEADS)
    facts = [sentence(rng.choice(table.answers).format(e=e, v=told[e])) for e in shuffled(rng, given)]
    return ((sentence(lead),) if lead else ()) + tuple(facts)
