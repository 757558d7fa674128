"""Which language a text is in, by its commonest words: enough to see that a rewrite is not in that of its source."""

import functools
import itertools
import unicodedata

from crome_jax.augment.words import SHORT, WORD

_COMMONEST = {
    "Czech": "se na je že do to jako za by ale jsou který která jeho pro při nebo však když tak může není",
    "Danish": "og at det en den til er som på de med han af for ikke der var et har jeg men vi kan hun efter også",
    "Dutch": "de en van het een in is dat op te zijn met voor niet aan er om ook als dan maar bij uit wordt door naar",
    "English": "the of and to in is that it for was on are as with by be at this from or have not but which you an",
    "Finnish": "ja on ei se että oli joka mutta myös kun hän ovat kuin tai sen mukaan jos niin voi vain ole sitä jotka",
    "French": "le la les de des et en un une du que est pour dans qui il sur au ne pas par plus ce se avec sont",
    "German": "der die das und ist in zu den von mit sich des auf für nicht ein eine im dem es an als auch werden aus",
    "Hungarian": "az és hogy nem is egy van ez meg volt de csak mint már ha el még azt vagy kell minden szerint",
    "Indonesian": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena adalah ada bisa",
    "Italian": "di il la che in un una per non con le si da del della sono come anche al più lo ma nel gli alla",
    "Polish": "na się do że nie jest to jak po za od przez ale dla czy tak są lub które który może oraz jego",
    "Portuguese": "de que do da em um para com não uma os no se na por mais as dos como mas ao são também pelo",
    "Romanian": "de și în la cu nu pe că se din un este mai sau pentru care fi ce au prin dar sunt ca după această",
    "Spanish": "de la que el en los se del las un por con no una su para es al lo como más pero sus le ha este son",
    "Swedish": "och att det som en på är av för med den till inte har de ett om var vi men från jag kan eller så",
    "Turkish": "ve bir bu da de için ile çok olarak daha ne gibi ama kadar sonra olan var ki en her değil mi göre",
}
# None of one letter: most are a word of some language, and a name in the others.
_WORDS = {language: frozenset(words.split()) for language, words in _COMMONEST.items()}

_SHARE = 0.15
"""Least share of a language's commonest words for a text to be surely in it; running text has a quarter and more."""

_LEAST = 3

_MARGIN = 1.3
"""Times as many as of any other language: near relatives (Spanish, Portuguese) are told apart or not at all."""

_LETTERS = 1000
_KANA, _HAN = ("HIRAGANA", "KATAKANA"), 20
"""Japanese runs on syllables; so many Chinese characters without any are Chinese."""


@functools.lru_cache(maxsize=4096)
def language(text: str) -> str | None:
    """Return the language that a text is surely in, None where it is short, mixed, no prose, or of an unknown one.

    Known are sixteen in Latin letters, Japanese and Chinese. Most writing systems tell their language by themselves;
    see `verification.script`.
    """
    if not text.isascii() and (found := _east_asian(text)) is not None:
        return found
    words = [word for word in WORD.findall(text.lower()) if not word[0].isdigit()]
    if len(words) < SHORT:
        return None
    counts = sorted(((sum(word in known for word in words), name) for name, known in _WORDS.items()), reverse=True)
    (most, name), (next_most, _) = counts[:2]
    return name if most >= max(_LEAST, _SHARE * len(words)) and most >= _MARGIN * next_most else None


def _east_asian(text: str) -> str | None:
    names = [unicodedata.name(c, "").partition(" ")[0] for c in itertools.islice(filter(str.isalpha, text), _LETTERS)]
    kana, han = sum(name in _KANA for name in names), names.count("CJK")
    if not names or 2 * (kana + han) < len(names):
        return None
    if kana >= 0.1 * (kana + han):
        return "Japanese"
    return "Chinese" if han >= _HAN and not kana else None
