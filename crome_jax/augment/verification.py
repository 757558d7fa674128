"""What is kept: texts that are a rewrite, interventions the oracle stands by, pairs a baseline is not yet sure of."""

import collections
import functools
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence, Set

from crome_jax.augment.account import Account
from crome_jax.augment.asking import Plan
from crome_jax.augment.growth import Growth, without
from crome_jax.augment.languages import language
from crome_jax.augment.oracles.base import NO_ATTRIBUTE, Declined, Direction, Judgement, Reply, Rewrite, Verdict
from crome_jax.augment.oracles.offline.refusals import OPENING, only_some_decline
from crome_jax.augment.reading import spoken
from crome_jax.augment.rubrics import Rubric
from crome_jax.augment.words import SHORT, count_words, is_english
from crome_jax.errors import CromeError
from crome_jax.groups import Kind, Origin, PreferenceGroup

SAME_EDIT = 0.8
"""Share of changed word pairs in common from which two rewrites of one answer are near-duplicates."""

UNSURE = 0.2
"""Least distance of a baseline's win probability from the label for a pair to be kept. The value is RRM's (arXiv
2409.13156); Crome filters in the same way and the value it takes is not known to us."""

SCRIPT_LETTERS = 1000
"""Letters of a text that tell its writing system."""

QUALITY = Rubric(
    "overall quality", "How well the answer serves whoever asked, with all that matters to them considered."
)
"""What the two answers of a tie are compared in."""

_UNABLE = r"(?:can(?:no|['’]?)t|can not|unable to|not able to|won['’]t|will not|decline to|refuse to)(?! be\b)"
_CHANGE = r"(?:rewrit\w*|degrad\w*|modif\w*|alter(?:s|ed|ing)?\b|edit(?:s|ed|ing)?\b)"
_GAP = r"(?:[^\w.!?\n]+\w+){0,4}?[^\w.!?\n]+"
# Who cannot is the speaker, no "tuples" and no "you"; the "we" of a lesson cannot alter a tuple, "this answer" is ours.
_REFUSES_TO_REWRITE = re.compile(
    rf"\b(?-i:I)(?:['’]m|\s+(?:am|must|have to|do|just|also|still|therefore|\w+ly))*\s+{_UNABLE}"
    rf"{_GAP}(?:{_CHANGE}|this (?:task|request))"
    rf"|\bwe\b(?:['’]re|\s+(?:are|must|have to))?\s+{_UNABLE}"
    rf"{_GAP}(?:{_CHANGE}\s+(?:this|that|the|your)\s+(?:answer|response|reply|text)|this (?:task|request))"
    rf"|\bsorry\b[^.!?\n]{{0,40}}\b{_UNABLE}{_GAP}{_CHANGE}"
    rf"|^\W*(?:cannot|unable to|not able to)\s+(?:rewrite|degrade|comply)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?\n])\s+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ABOUT_DECLINING = re.compile(r"refus|complian|declin|safe|harm|ethic|legal|respons", re.IGNORECASE)


def unusable(
    reply: Reply,
    direction: Direction,
    attribute: str,
    parent: int,
    growth: Growth,
    freely: bool,
    allowed: Set[str] = frozenset(),
) -> str | None:
    """Return why a reply cannot become a response of the group, None where it can.

    Args:
        attribute: that was to be moved.
        parent: index of the answer that was to be rewritten.
        freely: whether the oracle writes free text, which is looked at more closely than an edit by rule.
        allowed: texts that are there already and may come once more.
    """
    if isinstance(reply, Declined):
        return reply.reason
    if not isinstance(reply, Rewrite) or not reply.text.strip():
        return "empty text"
    # Made equal to the preferred answer it would only say what the human said.
    if reply.text in growth.texts - allowed:
        return "equals another answer"
    return _doubtful(reply.text, direction, attribute, parent, growth) if freely else None


def _doubtful(text: str, direction: Direction, attribute: str, parent: int, growth: Growth) -> str | None:
    """Return what is wrong with free text that was to be a rewrite."""
    source = growth.responses[parent].text
    if "\0" in text or _SURROGATE.search(text):
        return "not valid text"
    words = spoken(text)
    if words == spoken(source):
        return "nothing would change"
    if _refuses_to_rewrite(text) and not _refuses_to_rewrite(source):
        return "refused to rewrite"
    # An answer that became a refusal was not moved along one attribute, unless that attribute is what declining is for.
    if not _ABOUT_DECLINING.search(attribute) and only_some_decline((source, text)):
        return "refused to rewrite"
    if _in_another_language(source, text):
        return "another language"
    for sibling in growth.responses[len(growth.group.responses) :]:
        other = spoken(sibling.text)
        if words == other:
            return "near-duplicate of another answer"
        # Paraphrases change every word; of what is rewritten along one attribute the same change is the same edit.
        if sibling.parent == parent and direction is not Direction.PARAPHRASE:
            mine, theirs = _changes(source, text), _changes(source, sibling.text)
            if mine and theirs and len(mine & theirs) >= SAME_EDIT * len(mine | theirs):
                return "near-duplicate of another answer"
    return None


@functools.lru_cache(maxsize=2048)
def _refuses_to_rewrite(text: str) -> bool:
    opening = _SENTENCE_END.split(text.lstrip(), OPENING)[:OPENING]
    return any(map(_REFUSES_TO_REWRITE.search, opening))


def _in_another_language(source: str, text: str) -> bool:
    if script(text) != script(source):
        return True
    if count_words(source) >= SHORT and is_english(source):  # Then any language that we do not know is another, too.
        return not is_english(text)
    return None not in (languages := {language(source), language(text)}) and len(languages) == 2


@functools.lru_cache(maxsize=2048)
def _changes(before: str, after: str) -> frozenset[tuple[str, str, str]]:
    """Return the pairs of neighbouring words that went and that came."""
    gone, come = (set(zip(("", *words), (*words, ""), strict=True)) for words in (spoken(before), spoken(after)))
    return frozenset([("-", *pair) for pair in gone - come] + [("+", *pair) for pair in come - gone])


@functools.lru_cache(maxsize=2048)
def script(text: str) -> str:
    """Return the writing system of most letters of a text (LATIN, CYRILLIC, CJK, ...); empty where it has none."""
    if text.isascii():  # Most texts, and the names of a thousand letters take time.
        return "LATIN" if any(map(str.isalpha, text)) else ""
    letters = collections.Counter(itertools.islice(filter(str.isalpha, text), SCRIPT_LETTERS))
    counts: collections.Counter[str] = collections.Counter()
    for letter, count in letters.items():
        name = unicodedata.name(letter, "").partition(" ")[0]
        counts[{"HIRAGANA": "CJK", "KATAKANA": "CJK"}.get(name, name)] += count
    return max(counts, key=lambda name: (counts[name], name), default="")


def judge_made(growth: Growth, rubrics: Sequence[Rubric], account: Account) -> Plan[None]:
    """Ask the oracle about each of its interventions and ties, and drop those it does not stand by.

    Kept are interventions whose attribute moved as it should and nothing else did, and ties (CAN, PARA) of which
    neither answer is the better one. What was made from one that goes, goes, too. A verdict that does not come keeps
    what was judged and is counted.
    """
    definitions = {rubric.name: rubric.definition for rubric in rubrics}
    against = {c.right: c.left for c in growth.comparisons if c.kind is Kind.NEUTRAL}
    judged: list[tuple[int, Judgement]] = []
    for r, response in enumerate(growth.responses):
        if r < len(growth.group.responses) or response.parent is None:
            continue
        if response.origin in (Origin.DEGRADED, Origin.UPGRADED):
            before, attribute = response.parent, response.attribute
            definition = definitions.get(attribute, "")
        elif r in against:
            before, attribute, definition = against[r], QUALITY.name, QUALITY.definition
        else:
            continue
        texts = growth.responses[before].text, response.text
        judged.append((r, Judgement(growth.group.prompt, *texts, attribute, definition)))
    if not judged:
        return
    verdicts = yield [judgement for _, judgement in judged]
    dropped: set[int] = set()
    for (r, _), verdict in zip(judged, verdicts, strict=True):
        response = growth.responses[r]
        attribute = response.attribute or NO_ATTRIBUTE
        if isinstance(verdict, Declined):
            account.dropped["verdict", attribute, verdict.reason] += 1
        elif response.parent in dropped:
            dropped.add(r)
            account.dropped["judged", attribute, "made from an answer that was dropped"] += 1
        elif reason := _objection(verdict, response.origin):
            dropped.add(r)
            account.dropped["judged", attribute, reason] += 1
    growth.drop(dropped)


def _objection(verdict: Verdict, origin: Origin) -> str | None:
    if origin not in (Origin.DEGRADED, Origin.UPGRADED):  # A tie: what else is there beside all that matters?
        ties = {None: None, Direction.UPGRADE: "better than its tie", Direction.DEGRADE: "worse than its tie"}
        return ties[verdict.moved]
    if verdict.moved is None:
        return "the attribute did not move"
    if (verdict.moved is Direction.UPGRADE) != (origin is Origin.UPGRADED):
        return "the attribute moved the other way"
    return None if verdict.only else "more than the attribute moved"


def drop_sure(
    groups: Sequence[PreferenceGroup],
    rewards: Sequence[Sequence[float]],
    *,
    account: Account,
    unsure: float = UNSURE,
    kinds: tuple[str, ...] = ("causal",),
) -> Iterator[PreferenceGroup]:
    """Drop the augmented comparisons that a baseline reward model is sure of and right about.

    With p = sigmoid(r_left - r_right), a comparison is kept where |target - p| >= unsure. For a causal one that is
    p <= 1 - unsure: the baseline gets it wrong, or is not sure. What `add_permutations` added is looked at whatever its
    kind, as in RRM: a tie stays where the baseline prefers a side. Human comparisons are all kept.

    Args:
        rewards: one array [R] for each group, in nats, of a model trained on the human comparisons alone.
        account: comparisons dropped are counted there.
        unsure: 0 keeps everything.
        kinds: of the other comparisons that are looked at.

    Yields:
        the groups, in order, without those comparisons and the responses that only they needed.

    Raises:
        CromeError: where the threshold is no share, or rewards are not finite.
    """
    if not 0 <= unsure <= 1:
        raise CromeError(f"unsure is {unsure}, not from 0 to 1; correct the value")
    for group, reward in zip(groups, rewards, strict=True):
        if not all(map(math.isfinite, reward)):
            raise CromeError(f"group {group.id}: the baseline gives it no finite reward; check the checkpoint")
        sure = set()
        for c, comparison in enumerate(group.comparisons):
            kind = comparison.kind.name.lower()
            origins = {group.responses[side].origin for side in (comparison.left, comparison.right)}
            permuted = Origin.PERMUTED in origins
            if comparison.kind is Kind.HUMAN or (kind not in kinds and not permuted):
                continue
            difference = float(reward[comparison.left]) - float(reward[comparison.right])
            p = 0.5 + 0.5 * math.tanh(0.5 * difference)
            if abs(comparison.target - p) < unsure:
                sure.add(c)
                what = ("non-contextual" if len(origins) == 1 else "contextual") if permuted else comparison.attribute
                account.dropped["baseline", what or kind, "the baseline is sure of it"] += 1
        yield without(group, comparisons=sure) if sure else group
