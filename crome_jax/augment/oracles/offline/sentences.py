"""A text as a sequence of sentences whose markers and white space stand apart, so that edits leave the layout alone."""

import dataclasses
import enum
import functools
import re
from collections.abc import Mapping

from crome_jax.augment.words import content_words, count_words

MARKER = re.compile(
    r"[ \t]*(?:(?:>[ \t]*)+)?(?:(?P<list>(?:[-*+•‣–]|\(?(?:\d{1,3}|[A-Za-z])[.)])[ \t]+)|(?P<head>#{1,6}[ \t]+))?"
)
LABEL = re.compile(r"(?:\*\*[^*\n]{1,80}\*\*|__[^_\n]{1,80}__)(?:[ \t]*[:–—-])?[ \t]*")
BREAK = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"'”’)\]*]))[ \t]+(?=[\"'“‘(\[*]*[A-Z0-9])|(?<=[。！？])(?=.)")
ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|No|Fig|Inc|Ltd|Co|approx|e\.g|i\.e|cf|al|Vol|pp?)|\b[A-Z])\.$"
)
MARKUP = re.compile(r"\*\*|__|`|\]\(|https?://|\||</?[a-z]|\$\$|\\[a-z(\[]")
FENCE = re.compile(r"[ \t]*(?:```|~~~)")


class Layout(enum.Enum):
    """What part of a page a sentence is."""

    PROSE = enum.auto()
    ITEM = enum.auto()
    """A sentence of a line that begins with a bullet, a number or a letter."""
    INTRODUCTION = enum.auto()
    """Ends with a colon: what follows hangs on it."""
    HEADING = enum.auto()
    VERBATIM = enum.auto()
    """Code, a table row, a rule: nothing here is edited."""


@dataclasses.dataclass(frozen=True)
class Sentence:
    """One sentence, or one line that is none.

    Args:
        lead: white space, list marker and bold label in front of it.
        text: the words, with their final punctuation.
    """

    lead: str
    text: str
    layout: Layout

    @functools.cached_property
    def words(self) -> int:
        """Number of words."""
        return count_words(self.text)

    @functools.cached_property
    def content(self) -> frozenset[str]:
        """Stems of the content words."""
        return content_words(self.text)

    @property
    def editable(self) -> bool:
        """Whether words inside it may change."""
        return self.layout is not Layout.VERBATIM

    @functools.cached_property
    def movable(self) -> bool:
        """Whether it can stand elsewhere: it is prose or part of a list, and closes what it opens."""
        text = self.text
        return (
            self.layout in (Layout.PROSE, Layout.ITEM)
            and self.words > 0
            and all(text.count(mark) % 2 == 0 for mark in ("**", "`", '"', "__"))
            and text.count("“") == text.count("”")
            and all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))
        )

    @functools.cached_property
    def replaceable(self) -> bool:
        """Whether another sentence can take its place: movable, without inline markup, more than a fragment."""
        return self.movable and self.words >= 4 and not MARKUP.search(self.text)


@dataclasses.dataclass(frozen=True, eq=False)
class Document:
    """The sentences of a text; their leads and texts, and `tail`, join to the text itself."""

    sentences: tuple[Sentence, ...]
    tail: str

    def __str__(self) -> str:
        return self.replaced({})

    def replaced(self, changes: Mapping[int, str]) -> str:
        """Return the text with new words for some sentences, every lead in its place.

        Args:
            changes: index of a sentence -> its new text.
        """
        return "".join(s.lead + changes.get(i, s.text) for i, s in enumerate(self.sentences)) + self.tail

    @functools.cached_property
    def replaceable(self) -> tuple[int, ...]:
        """Indices of the sentences another one can stand in for."""
        return tuple(i for i, s in enumerate(self.sentences) if s.replaceable)

    @functools.cached_property
    def content(self) -> frozenset[str]:
        """Stems of all content words."""
        return frozenset().union(*(s.content for s in self.sentences))


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Document:
    """Split a text into sentences; `str` of the result is the text, to the character."""
    sentences: list[Sentence] = []
    space = ""
    fenced = False
    for line in text.splitlines(keepends=True):
        body = line.rstrip()
        end = line[len(body) :]
        fence = FENCE.match(body) is not None
        if not body:
            space += line
            continue
        if fence or fenced or _is_verbatim(body):
            sentences.append(Sentence(space, body, Layout.VERBATIM))
            fenced ^= fence
        else:
            sentences += _line_sentences(space, body)
        space = end
    return Document(tuple(sentences), space)


def _is_verbatim(line: str) -> bool:
    stripped = line.strip()
    code = line.startswith(("    ", "\t")) and stripped.endswith(("{", "}", ";", ")"))
    return code or stripped.startswith("|") or not any(map(str.isalnum, stripped))


def _line_sentences(space: str, line: str) -> list[Sentence]:
    marker = MARKER.match(line)
    layout = Layout.ITEM if marker["list"] else Layout.HEADING if marker["head"] else Layout.PROSE
    start = marker.end()
    if label := LABEL.match(line, start):
        if label.end() == len(line):
            return [Sentence(space + line[:start], line[start:], Layout.HEADING)]
        start = label.end()
    if start == len(line):
        return [Sentence(space, line, Layout.VERBATIM)]
    cuts = [start]
    ends = []
    for gap in BREAK.finditer(line, start):
        if not ABBREVIATION.search(line, max(cuts[-1], gap.start() - 8), gap.start()):
            ends.append(gap.start())
            cuts.append(gap.end())
    ends.append(len(line))
    out = []
    before = space + line[: cuts[0]]
    for cut, end in zip(cuts, ends, strict=True):
        text = line[cut:end]
        kind = Layout.INTRODUCTION if text.endswith(":") and layout is not Layout.HEADING else layout
        out.append(Sentence(before, text, kind))
        before = line[end : cuts[len(out)]] if len(out) < len(cuts) else ""
    return out
