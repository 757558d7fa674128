"""Requests for an introduction of one of two people the prompt describes: about whom, and is it true?"""

import random
from collections.abc import Collection

from crome_jax.data.datasets.testbed.contrast import NAMES, Contrast, sentence, shuffled, wordings

_JOBS = (
    "a nurse", "a baker", "a teacher", "a plumber", "a pilot", "a lawyer", "a farmer", "a dentist", "a carpenter",
    "a librarian", "a chemist", "a tailor", "a waiter", "a gardener", "a journalist", "a mechanic",
)  # fmt: skip
_CITIES = (
    "Lisbon", "Oslo", "Vienna", "Prague", "Naples", "Zurich", "Bergen", "Krakow", "Seville", "Dublin", "Lyon",
    "Antwerp", "Turin", "Basel", "Cork", "Ghent",
)  # fmt: skip
_HOBBIES = (
    "painting", "sailing", "chess", "cycling", "singing", "pottery", "hiking", "knitting", "fishing", "tennis",
    "photography", "dancing", "baking", "bird-watching", "climbing", "swimming",
)  # fmt: skip

_FACTS = {"job": _JOBS, "city": _CITIES, "hobby": _HOBBIES}

_DESCRIPTIONS = (
    "{name} is {job} from {city} who loves {hobby}.",
    "{name}, {job}, grew up in {city} and spends weekends on {hobby}.",
    "From {city} comes {name}, {job} whose hobby is {hobby}.",
)
_ORDERS = (
    "Please introduce {name} in two or three sentences for our newsletter.",
    "Could you write a few words that present {name} to the team?",
    "I need a short introduction of {name} for a name card.",
    "Can you sum up for me who {name} is?",
)
_ORIGINS = ("{name} comes from {city}", "the home town of {name} is {city}", "{city} is where {name} was raised")
_WORKS = ("at work, {name} is {job}", "{name} earns a living as {job}", "{name} works as {job}")
_LEISURES = ("{hobby} is what {name} enjoys most", "in free hours {name} turns to {hobby}", "{name} is fond of {hobby}")


def draw_portrait(rng: random.Random, lowered: Collection[str]) -> Contrast:
    """Draw a request to introduce one of two people; lowers correct, on_topic, or both.

    Incorrect are two of the three facts; off topic is an introduction of the other person.
    """
    subject, other = rng.sample(NAMES, 2)
    people = {
        name: {"job": job, "city": city, "hobby": hobby}
        for name, job, city, hobby in zip(
            (subject, other), rng.sample(_JOBS, 2), rng.sample(_CITIES, 2), rng.sample(_HOBBIES, 2), strict=True
        )
    }
    described = other if "on_topic" in lowered else subject
    told = dict(people[described])
    if "correct" in lowered:
        # Each wrong fact is the other person's, or stands nowhere in the prompt.
        for fact in rng.sample(tuple(told), 2):
            known = {person[fact] for person in people.values()}
            strange = rng.choice([value for value in _FACTS[fact] if value not in known])
            told[fact] = rng.choice((people[subject if described == other else other][fact], strange))
    descriptions = [
        rng.choice(_DESCRIPTIONS).format(name=name, **people[name]) for name in shuffled(rng, (subject, other))
    ]
    chosen_words, rejected_words = wordings(rng)
    return Contrast(
        template="portrait",
        prompt=" ".join([*descriptions, rng.choice(_ORDERS).format(name=subject)]),
        chosen=_introduction(chosen_words, subject, people[subject]),
        rejected=_introduction(rejected_words, described, told),
        lowered=tuple(lowered),
    )


def _introduction(rng: random.Random, name: str, facts: dict[str, str]) -> tuple[str, ...]:
    clauses = [rng.choice(pool).format(name=name, **facts) for pool in (_ORIGINS, _WORKS, _LEISURES)]
    return tuple(sentence(clause) for clause in shuffled(rng, clauses))
