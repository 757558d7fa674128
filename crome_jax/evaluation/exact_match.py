"""GSM8K's judge: the number that an answer ends with against the right one."""

import re
from decimal import Decimal, InvalidOperation

_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
_MARKED = (
    re.compile(r"####\s*(-?\$?[\d,]*\.?\d+)"),  # GSM8K's own solutions
    re.compile(r"\\boxed\{\s*\$?\s*(-?[\d,]*\.?\d+)[^{}]*\}"),
    re.compile(r"(?i)\banswer\s*(?:is|:|=)[\s:=*(]*(-?\$?[\d,]*\.?\d+)"),
)
_LATEX = re.compile(r"\\[()\[\],!]")
"""How mathematics begin and end, and thin spaces."""


def extract_number(text: str) -> Decimal | None:
    """Return the final number of an answer, None where it has none.

    A number after `####`, in a box, or after "the answer is" counts before the last one of the text; of several marked
    ones the last. Currency signs and thousands separators are dropped, as the benchmark's own checker does (Cobbe et
    al. 2021, arXiv 2110.14168).
    """
    text = _LATEX.sub("", text.replace("{,}", ",").replace("\\$", "$"))
    for pattern in _MARKED:
        if found := pattern.findall(text):
            return _read(found[-1])
    found = _NUMBER.findall(text)
    return _read(found[-1]) if found else None


def exact_match(text: str, answer: str) -> float:
    """Return 1 where an answer's final number is that of the right answer, else 0.

    Args:
        answer: the right answer: a number, or a solution that ends with one.
    """
    right = extract_number(answer)
    return float(right is not None and extract_number(text) == right)


def _read(digits: str) -> Decimal | None:
    try:
        return Decimal(digits.replace(",", "").replace("$", ""))
    except InvalidOperation:
        return None
