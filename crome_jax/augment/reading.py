"""What reading a text aloud gives: its words, and the signs that carry content, without case and layout."""

import functools
import re
import unicodedata

from crome_jax.augment.words import WORD

_SAME = str.maketrans({"’": "'", "−": "-", "×": "*", "÷": "/", "≤": "<=", "≥": ">=", "≠": "!="})
"""Signs that are written in two ways."""

# Nothing is tried twice (the second + of "++"): an answer of nothing but ticks is read as fast as any.
_CODE = re.compile(
    r"^[ \t]*+(?P<fence>```++|~~~++)(?P<language>[^`\n]*+)\n"
    r"(?P<block>(?:(?![ \t]*+(?P=fence))(?:[^\n]++\n?|\n))*+)(?:[ \t]*+(?P=fence))?"
    r"|(?<!`)(?P<ticks>`++)(?P<span>[^`\n]++)(?P=ticks)",
    re.MULTILINE,
)
_LINE_START = re.compile(r"^[ \t]*(?:[-+*][ \t]+|>(?!\d)[ \t]?)+", re.MULTILINE)  # Bullets and quotations.

# Operands: what may stand before and after an operator, and those next to which a dash is a minus.
_BEFORE, _AFTER = r"(?<=[\w)\]}])", r"(?=[-.$€£]?[\w(\[{]|[\"'])"
_NUMBER = r"[$€£]?\.?\d"
_TERM_BEFORE = r"(?:(?<=[\d)\]}])|(?<=(?<![\w'])[^\W\d_]))"
_TERM_AFTER = rf"(?=-?{_NUMBER}|[(\[{{]|[^\W\d_](?![\w']))"
_RUN = r"(?!-+[ \t\w(\[{])[-+*/=<>!^&±]+"  # Dashes alone are none: see _MINUS.
_MINUS = (
    rf"{_TERM_BEFORE}(?:[ \t]+-[ \t]+|-){_TERM_AFTER}"
    rf"|(?<![\w)\]}}-])-(?={_NUMBER})"
    r"|(?:(?<=[=(<>+*/^$])|(?<=[=(<>+*/^$][ \t]))-(?=\w)"
)
# Spaces on both sides or on neither: "*so*", "<https://...>" and "a note*" are layout. So is a star within a word of a
# language that writes words without spaces.
_OPERATOR = re.compile(
    rf"{_MINUS}|{_BEFORE}[ \t]+{_RUN}[ \t]+{_AFTER}|{_BEFORE}(?!\*){_RUN}{_AFTER}"
    rf"|(?<=[a-z\d)\]}}])\*+(?=[-.]?[a-z\d(\[{{])"
    rf"|(?<=\w)\++|(?<![^\s(])[<>]=?(?={_NUMBER})|[%$€£]"
)
_SIGN = re.compile(r"[-+*/=<>!^&±%$€£]")
_IN_LINE = re.compile(rf"{WORD.pattern}|[-+*/%=<>!^&|~@$€£]")
_IN_BLOCK = re.compile(rf"{WORD.pattern}|[^\w\s]")


@functools.lru_cache(maxsize=2048)  # Each answer of a group is compared with those that come after it.
def spoken(text: str) -> tuple[str, ...]:
    """Return what is heard of a text, in order: its words without case, and its operators, sign by sign.

    An operator is one between operands, "a + b", "x<0" and "(3+4)*2", a minus before a number, and any in code; of a
    block of code every sign is heard. List bullets, dashes, emphasis and white space are layout.
    """
    normal = text.casefold()
    if not text.isascii():
        normal = unicodedata.normalize("NFKC", text).casefold().translate(_SAME)
    heard: list[str] = []
    end = 0
    for code in _CODE.finditer(normal) if "`" in normal or "~~~" in normal else ():
        heard += _read(normal[end : code.start()])
        if code["fence"]:
            heard += [*_read(code["language"]), *_IN_BLOCK.findall(code["block"])]
        else:
            heard += _IN_LINE.findall(code["span"])
        end = code.end()
    return (*heard, *_read(normal[end:]))


def _read(prose: str) -> list[str]:
    """Return what is heard of text without code."""
    prose = _LINE_START.sub("", prose)
    heard: list[str] = []
    end = 0
    # From sign to sign, which are few: one pattern for words and operators took three times as long.
    for sign in _SIGN.finditer(prose):
        if sign.start() < end:  # Of an operator of several signs.
            continue
        start = sign.start()
        while start > end and prose[start - 1] in " \t":
            start -= 1
        heard += WORD.findall(prose, end, start)
        found = _OPERATOR.match(prose, start) or _OPERATOR.match(prose, sign.start())
        heard += found[0].strip() if found else ""
        end = found.end() if found else sign.end()
    return heard + WORD.findall(prose, end)
