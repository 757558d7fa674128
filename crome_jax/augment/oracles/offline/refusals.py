"""Refusals in English: find them, tell where one may be right, and compose one from a prompt's own words."""

import functools
import random
import re
from collections.abc import Iterable, Sequence, Set

from crome_jax.augment.oracles.offline.sentences import Document, Layout, parse
from crome_jax.augment.words import FUNCTION_WORDS, WORD, content_words, count_words

OPENING = 4
"""A refusal shows in this many first sentences; later ones hedge an answer."""

_UNWILLING = (
    r"(?:can(?:no|['’]?)t|can not|could(?: not|n['’]t)|will not|won['’]t|would(?: not|n['’]t)|do(?: not|n['’]t)"
    r"|(?:am|['’]m) (?:not (?:able|going|comfortable|willing|allowed)|unable)"
    r"|must (?:decline|refuse)|(?:have|need) to decline"
    r"|decline|refuse|should(?: not|n['’]t))"
)
_ACT = (
    r"(?:help|assist|provide|answer|fulfil+|comply|create|write|generate|offer|support|engage|give|discuss|share"
    r"|do (?:that|this)|participate|continue|condone|encourage|advise|recommend|respond|tell|speak|go into|make"
    r"|produce|promote|complete)"
)
_REFUSAL = re.compile(
    rf"\b(?:I|we|I['’]m|an AI)\b[^.!?\n]{{0,60}}?\b{_UNWILLING}(?:\W+\w+){{0,4}}?\W+{_ACT}", re.IGNORECASE
)
_DECLINE = re.compile(
    r"\b(?:I|we)\b(?!['’]| (?:did|do|would|could|should|never))[^.!?\n]{0,30}?"
    r"\b(?:must|have to|need to|am going to|will|['’]ll|want to|choose to|prefer to|respectfully)?"
    r" ?(?:decline|refuse|say no)\b",
    re.IGNORECASE,
)
_SORRY = re.compile(
    r"^\W*(?:I['’]?m|I am)? ?(?:very |so |really )?(?:sorry|afraid)\b[^.!?\n]{0,40}"
    r"\b(?:can(?:no|['’]?)t|unable|not able|won['’]t)",
    re.IGNORECASE,
)

_HAZARD = re.compile(
    r"\b(?:kill|murder|suicid|bomb|explosiv|weapon|poison|steal|stole|rob(?:b|s|\b)|hack|malware|virus|phish|fraud|scam|launder"
    r"|drug|cocaine|meth\b|heroin|rape|sexual|porn|nude|nsfw|erotic|molest|pedo|racis|racial|nazi|slur|hate|bully|harass"
    r"|stalk|torture|abus|assault|attack|terror|violen|illegal|crime|criminal|shoplift|smuggl|counterfeit|forge|blackmail"
    r"|extort|kidnap|self-harm|anorex|overdos|insult|swear|curse|cuss|f[u*]ck|shit|bitch|asshole|password"
    r"|credit card|social security|home address|spy|track someone|cheat|lie to|manipulat|deceiv|hurt|harm"
    r"|beat up|punch|stab|shoot|gun|burn down|arson)",
    re.IGNORECASE,
)

_DECLINES = (
    "I cannot help with {}.",
    "I am not able to say anything about {}.",
    "I will not go into {}.",
    "Nothing about {} can be said here.",
    "I have to decline what concerns {}.",
    "As for {}, I would rather not answer.",
    "I can offer neither an answer nor advice on {}.",
    "You will have to look for {} somewhere else.",
    "This is not something that I will answer.",
    "I would rather leave the matter to someone else.",
    "There is no more that I can do with such a request.",
    "My answer has to be no.",
)
"""Ways to decline, with and without a place for what was asked about."""

MOST_SUBJECTS = 3
"""Subjects named in one decline; a longer enumeration reads as a list of words."""


def refusals(document: Document) -> list[int]:
    """Return the sentences in which the speaker declines, none where the opening does not."""
    prose = [i for i, s in enumerate(document.sentences) if s.layout is not Layout.VERBATIM]

    def declining(indices: Iterable[int]) -> list[int]:
        forms = (_REFUSAL, _DECLINE, _SORRY)
        return [i for i in indices if any(form.search(document.sentences[i].text[:400]) for form in forms)]

    opening = declining(prose[:OPENING])
    return opening + declining(prose[OPENING:]) if opening else []


def only_some_decline(texts: Iterable[str]) -> bool:
    """Tell whether some of the texts are refusals and others are not."""
    return len(set(map(_declines, texts))) == 2


@functools.lru_cache(maxsize=2048)  # An answer is looked at once for every rewrite of it.
def _declines(text: str) -> bool:
    return bool(refusals(parse(text)))


def may_deserve_refusal(prompt: str) -> bool:
    """Tell whether declining might be the better answer, so that a decline must not be labelled the worse one.

    Errs on the side of yes: a yes costs one edit, a wrong no a wrong label.
    """
    return _HAZARD.search(prompt) is not None


def subjects(prompt: str, about: Set[str]) -> list[str]:
    """Return the runs of content words of a prompt, those that share words with `about` if any do."""
    runs: dict[str, None] = {}
    run: list[str] = []
    end = 0
    for word in WORD.finditer(prompt):
        if run and (prompt[end : word.start()] not in (" ", "-") or len(run) == 3):
            runs.setdefault(" ".join(run))
            run = []
        if word[0].lower() not in FUNCTION_WORDS and len(word[0]) > 2:
            opens = prompt[: word.start()].rstrip()[-1:] in ("", ".", "!", "?", ":")
            run.append(word[0].lower() if opens else word[0])
        elif run:
            runs.setdefault(" ".join(run))
            run = []
        end = word.end()
    if run:
        runs.setdefault(" ".join(run))
    distinct = list({name.lower(): name for name in runs}.values())
    # A verb of the question seldom comes back in the answer; what the question is about does.
    return [name for name in distinct if content_words(name) & about] or distinct


def declines(prompt: str, about: Set[str], lengths: Sequence[int], rng: random.Random) -> list[str]:
    """Compose refusals from a prompt's own words, one for each wanted length.

    Args:
        about: stems of the content words of what is not going to be answered.
        lengths: number of words each should have, met as nearly as the subjects allow.
    """
    named = subjects(prompt, about)[-2 * MOST_SUBJECTS :]
    forms: list[str] = []
    composed = []
    for length in lengths:
        sentences: list[str] = []
        left = length
        while left >= 4 or not sentences:
            # Every form once before any comes again.
            forms = forms or rng.sample(_DECLINES, len(_DECLINES))
            form = min(forms, key=lambda f: max(0, _least(f) - left))
            forms.remove(form)
            sentence = _named(form, named, left, rng)
            sentences.append(sentence)
            left -= count_words(sentence)
        composed.append(" ".join(sentences))
    return composed


def _least(form: str) -> int:
    return count_words(form) + ("{}" in form)


def _named(form: str, named: Sequence[str], words: int, rng: random.Random) -> str:
    if "{}" not in form:
        return form
    chosen: list[str] = []
    for name in rng.sample(named, len(named)):
        # Up to a word too many: as often as too few, so that lengths come out even.
        if chosen and count_words(form + " ".join([*chosen, name])) > words + rng.randrange(2):
            break
        chosen.append(name)
        if len(chosen) == MOST_SUBJECTS:
            break
    listed = ", ".join(chosen[:-1]) + " or " + chosen[-1] if len(chosen) > 1 else (chosen or ["this"])[0]
    sentence = form.format(listed)
    return sentence[0].upper() + sentence[1:]
