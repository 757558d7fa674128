"""Words of a text: which of them carry content, and whether they are English."""

import functools
import operator
import re
from collections.abc import Iterator, Set

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")

FUNCTION_WORDS = frozenset(
    WORD.findall(
        """
    a about above after again against all also am an and any are aren't as at be because been before being below between
    both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each either else etc
    even every few for from further get give had has hasn't have haven't having he he's her here here's hers herself him
    himself his how however i i'd i'll i'm i've if in into is isn't it it's its itself just let let's like made make
    makes many may me might more most much must my myself neither no nor not of off on once one only or other others our
    ours out over own per please same several shall she she's should shouldn't so some such tell than that that's the
    their theirs them themselves then there there's therefore these they they're this those though through thus to too
    under until up upon us use used using very via want was wasn't we we're well were weren't what what's when where
    whether which while who whom whose why will with within without won't would wouldn't yes yet you you'd you'll you're
    you've your yours yourself
        """
    )
)

# What is written without spaces is cut into runs of neighbouring characters. Of Chinese and Japanese those of two, as
# most words have two, between characters that are mostly grammar, as hiragana are; katakana spell a word from end to
# end. Of Thai and its like, an alphabet, those of four: of two a seventh of unrelated prompts have too many in common.
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff々]+")
_HAN_GRAMMAR = re.compile(
    "[的了是在和与或及而且但请我你您他她它们这那哪什么怎样吗呢吧啊也都就很还又把被让给为如何其之一个些不没有可以要帮與請們這麼樣嗎還讓給為個沒幫]"
)
_KATAKANA = re.compile("[\u30a1-\u30ff]+")
_THAI = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+")  # And Lao, Burmese and Khmer.
_THAI_GRAMMAR = re.compile(
    "อย่างไร|อะไร|เกี่ยวกับ|สำหรับ|ด้วย|ต้อง|ช่วย|หน่อย|และ|หรือ|ของ|ที่|ใน|เป็น|คือ|การ|ความ|ได้|ไม่|ให้|มี|จะ|ว่า|กับ|ทำไม|ทำ|วิธี|ฉัน|ผม|คุณ|นี้|นั้น"
    "|จาก|โดย|แต่|ถ้า|เพื่อ|ถึง|จึง|ก็|แล้ว|อยู่|กว่า|มาก|ไหน|ไหม|ครับ|ค่ะ|บ้าง|กัน|ผู้|ซึ่ง|เหตุใด|ยัง"
)
_UNSPACED = re.compile(f"(?:{_HAN.pattern}|[\u3040-\u309f]+|{_KATAKANA.pattern}|{_THAI.pattern})+")

ENGLISH_SHARE = 0.12
"""Least share of function words in running English; lists of names and telegraphic calculations stay above it."""

SHORT = 8
"""Below this many words the share of function words says nothing."""


@functools.lru_cache(maxsize=8192)
def count_words(text: str) -> int:
    """Return the number of words: the unit of every length band here."""
    return len(WORD.findall(text))


@functools.lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """Return a lower-cased word without its commonest endings, so that 'states' meets 'state'."""
    word = word.lower().replace("’", "'").removesuffix("'s")
    for ending, kept in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 4 and not word.endswith("ss"):
            return word.removesuffix(ending) + kept
    return word.removesuffix("s") if len(word) == 4 and not word.endswith("ss") else word


@functools.lru_cache(maxsize=8192)
def content_words(text: str) -> frozenset[str]:
    """Return the stems of the words that carry content: no function words, no single letters.

    Of a language that is written without spaces they are runs of its characters.
    """
    spaced = text.lower().replace("’", "'")
    runs: set[str] = set()
    if not text.isascii():
        runs.update(run for part in _UNSPACED.findall(spaced) for run in _runs(part))
        spaced = _UNSPACED.sub(" ", spaced)
    words = set(WORD.findall(spaced)) - FUNCTION_WORDS
    return frozenset(stem(word) for word in words if len(word) > 1 or word.isdigit()) | runs


def _runs(unspaced: str) -> Iterator[str]:
    for script, grammar, length in ((_HAN, _HAN_GRAMMAR, 2), (_THAI, _THAI_GRAMMAR, 4)):
        for part in (part for run in script.findall(unspaced) for part in grammar.split(run)):
            if len(part) >= length // 2:
                yield from (part[k : k + length] for k in range(max(1, len(part) - length + 1)))
    yield from _KATAKANA.findall(unspaced)


def overlap(words: Set[str], others: Set[str]) -> float:
    """Return the share of the smaller set that the two have in common, 0 where either is empty."""
    return len(words & others) / min(len(words), len(others)) if words and others else 0.0


@functools.lru_cache(maxsize=4096)
def is_english(text: str) -> bool:
    """Tell whether a text reads as English, leaving the benefit of the doubt to short ones."""
    words = WORD.findall(text.lower().replace("’", "'"))
    if not words or (not text.isascii() and sum(map(str.isascii, words)) < 0.8 * len(words)):
        return False
    # By built-in functions: each reply of an oracle is looked at, and a loop over its words takes ten times longer.
    count = len(words) - sum(map(str.isdigit, map(operator.itemgetter(0), words)))
    return count < SHORT or sum(map(FUNCTION_WORDS.__contains__, words)) >= ENGLISH_SHARE * count
