"""Languages: a rewrite is in that of its source, whichever it is."""

import pytest

from crome_jax.augment.growth import Growth
from crome_jax.augment.languages import language
from crome_jax.augment.oracles import Direction, Rewrite
from crome_jax.augment.verification import unusable
from crome_jax.groups import build_group

TEXTS = {
    "English": "Whales sing by pushing air past a fold in the throat. It carries for 100 miles in the cold sea, and it "
    "is always heard by other whales.",
    "German": "Wale singen, indem sie Luft an einer Falte in der Kehle vorbei drücken. Das trägt hundert Meilen weit "
    "durch die kalte See, und andere Wale hören es immer.",
    "French": "Les baleines chantent en poussant de l'air à travers un pli de la gorge. Le son porte à cent milles "
    "dans la mer froide, et les autres baleines l'entendent toujours.",
    "Spanish": "Las ballenas cantan al empujar el aire por un pliegue de la garganta. El sonido llega a cien millas en "
    "el mar frío, y siempre lo oyen otras ballenas.",
    "Italian": "Le balene cantano spingendo l'aria attraverso una piega della gola. Il suono arriva a cento miglia nel "
    "mare freddo, ed è sempre udito dalle altre balene che sono lì.",
    "Dutch": "Walvissen zingen door lucht langs een plooi in de keel te persen. Het geluid draagt honderd mijl ver "
    "door de koude zee, en andere walvissen horen het altijd.",
    "Swedish": "Valar sjunger genom att pressa luft förbi ett veck i strupen. Ljudet bär hundra mil i det kalla havet, "
    "och det hörs alltid av andra valar som är där.",
    "Polish": "Wieloryby śpiewają, przepychając powietrze przez fałd w gardle. Dźwięk niesie się na sto mil w zimnym "
    "morzu i jest zawsze słyszany przez inne wieloryby, które są w pobliżu.",
    "Turkish": "Balinalar havayı boğazdaki bir kıvrımdan iterek şarkı söyler. Bu ses soğuk denizde yüz mil kadar "
    "gider ve her zaman başka balinalar için çok önemli bir işaret olarak duyulur.",
    "Chinese": "鲸鱼通过将空气推过喉咙中的褶皱来唱歌。这种声音在寒冷的海水中可以传播一百英里，其他鲸鱼总能听到。",
    "Japanese": "クジラは喉のひだに空気を押し通して歌う。その音は冷たい海を百マイルも伝わり、他のクジラに聞こえる。",
    "Russian": "Киты поют, проталкивая воздух через складку в горле. Это слышно за сто миль в холодном море, и другие "
    "киты всегда это слышат.",
}
CHANGED = {
    "German": TEXTS["German"].replace("hundert", "neunhundert"),
    "Chinese": TEXTS["Chinese"].replace("一百", "九百"),
    "Japanese": TEXTS["Japanese"].replace("百マイル", "九百マイル"),
    "Russian": TEXTS["Russian"].replace("сто", "девятьсот"),
    "French": TEXTS["French"].replace("cent", "neuf cents"),
}


def check(source, text, prompt="?"):
    group = build_group(id="g", prompt=prompt, responses=[source, "-"], comparisons=[])
    return unusable(Rewrite(text, "x"), Direction.DEGRADE, "accuracy", 0, Growth(group), True)


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "Russian"])
def test_running_text_is_of_its_language(name):
    assert language(TEXTS[name]) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Ja, und nein.",
        "1 2 3 4 5 6 7 8 9",
        "def f(x):\n    return x * y - z / w + v % u",
        "鲸鱼",
        "\u200b",
        "A man is chopping down a tree using an axe.",
    ],
)
def test_what_is_short_or_no_prose_is_of_none(text):
    assert language(text) is None


@pytest.mark.parametrize("source", CHANGED)
def test_a_rewrite_in_the_language_of_its_source_is_kept_and_one_in_any_other_is_not(source):
    assert check(TEXTS[source], CHANGED[source]) is None
    for name, text in TEXTS.items():
        if name != source:
            assert check(TEXTS[source], text) == "another language"


def test_the_language_of_the_prompt_does_not_matter_and_names_of_another_language_neither():
    # A translation is asked for in English, and is answered in German.
    assert check(TEXTS["German"], CHANGED["German"], prompt="Translate this into German, please.") is None
    quoted = f"{TEXTS['German']} Auf Englisch heißt das „whale song“."
    assert check(TEXTS["German"], quoted) is None
    assert (
        check("Lima, Quito, Bogotá, Caracas.", "Lima, Quito, Bogotá, and it is Caracas that is the last of the four.")
        is None
    )
