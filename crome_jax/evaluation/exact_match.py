"""GSM8K's judge: the number that an answer ends with against the right one."""

import re
from decimal import Decimal, InvalidOperation

_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
_VALUE = r"-?\$?[\d,]*\.?\d+"
_MARKED = (
    re.compile(rf"####\s*({_VALUE})"),  # GSM8K's own solutions
    re.compile(r"\\boxed\{\s*\$?\s*(-?[\d,]*\.?\d+)[^{}]*\}"),
    re.compile(rf"(?i)\banswer\s*(?:is|:|=)[\s:=*(]*({_VALUE})"),
)
_UNIT = r"\s*%?(?:\s*[a-z]+)?\s*"
_OPERATOR = re.compile(rf"(?i)(?:{_UNIT}(?:[-+*/^×÷·]|x|\\times|\\cdot|\\div)[\s($]*|\()\.?\d")
_OVER = re.compile(r"\s*/\s*(\d[\d,]*(?:\.\d+)?)(?!\s*[-+*/^×÷·(])")
_EQUALS = re.compile(rf"(?i){_UNIT}=")
_END = re.compile(r"[.!?,;:](?:\s|$)|[\n}]")
"""What may follow a number of a calculation, and what a calculation ends at."""
_LATEX = re.compile(r"\\[()\[\],!]")
"""How mathematics begin and end, and thin spaces."""


def extract_number(text: str) -> Decimal | None:
    """Return the final number of an answer, None where it has none.

    A number after `####`, in a box, or after "the answer is" counts before the last one of the text; of several marked
    ones the last. Where a marked number begins a calculation ("the answer is 3 * 4 = 12") its result counts, and of a
    fraction ("3/4") its value. Currency signs and thousands separators are dropped, as the benchmark's own checker does
    (Cobbe et al. 2021, arXiv 2110.14168).
    """
    text = _LATEX.sub("", text.replace("{,}", ",").replace("\\$", "$").replace("\N{MINUS SIGN}", "-"))
    for pattern in _MARKED:
        if found := list(pattern.finditer(text)):
            return _result(text, *found[-1].span(1))
    found = _NUMBER.findall(text)
    return _read(found[-1]) if found else None


def exact_match(text: str, answer: str) -> float:
    """Return 1 where an answer's final number is that of the right answer, else 0.

    Args:
        answer: the right answer: a number, or a solution that ends with one.
    """
    right = extract_number(answer)
    return float(right is not None and extract_number(text) == right)


def _result(text: str, start: int, end: int) -> Decimal | None:
    """Return the number of a span of a text or, where a calculation begins with it, the last number it comes to."""
    number = _read(text[start:end])
    if _OPERATOR.match(text, end) or _EQUALS.match(text, end):
        stop = _END.search(text, end)
        for side in reversed(text[end : stop.start() if stop else None].split("=")[1:]):
            value = re.search(_VALUE, side)
            # What goes on after it is a sum to be done, as in "12 = 3 * 4".
            if value and not _OPERATOR.match(side, value.end()):
                return _read(value[0])
    if number is not None and (over := _OVER.match(text, end)) and (divisor := _read(over[1])):
        return number / divisor
    return number


def _read(digits: str) -> Decimal | None:
    try:
        return Decimal(digits.replace(",", "").replace("$", ""))
    except InvalidOperation:
        return None
