"""Open questions for advice on a hobby or two: is the answer on those?"""

import random
from collections.abc import Collection

from crome_jax.data.datasets.testbed.contrast import Contrast, sentence, shuffled

TOPICS = {
    "gardening": (
        "water the beds early, before the sun is high",
        "mix some compost into the soil each spring",
        "plant herbs near the kitchen door",
        "never dig when the ground is frozen",
        "do not let slugs reach the young lettuce",
        "avoid planting tomatoes in deep shade",
    ),
    "baking bread": (
        "let the dough rise until it doubles",
        "heat the oven well before the loaf goes in",
        "weigh the flour instead of using cups",
        "do not cut the loaf while it is hot",
        "never kill the yeast with boiling water",
        "avoid opening the oven in the first minutes",
    ),
    "playing the guitar": (
        "tune the strings each time you begin",
        "practise the chord changes slowly at first",
        "keep your thumb behind the neck",
        "do not press so hard that your fingers ache",
        "never leave the instrument in a hot car",
        "avoid learning five songs at once",
    ),
    "running": (
        "warm up with a brisk walk",
        "raise the distance by a little every week",
        "choose shoes that leave room for your toes",
        "never run on through a sharp pain in the knee",
        "do not start so fast that you cannot talk",
        "avoid steep hills in the first month",
    ),
    "painting": (
        "sketch the outline lightly before adding colour",
        "rinse the brushes after each session",
        "mix a little more colour than you need",
        "do not put a second layer on a wet one",
        "never pour oil or solvent down the sink",
        "avoid using black for every shadow",
    ),
    "chess": (
        "bring your knights and bishops out early",
        "castle before the centre opens up",
        "look at every check your opponent has",
        "never move the queen out too soon",
        "do not leave the back rank undefended",
        "avoid trading pieces without a reason",
    ),
    "cycling": (
        "pump up the tyres once a week",
        "set the saddle at the height of your hip",
        "oil the chain after a rainy ride",
        "never brake hard with the front wheel alone",
        "do not ride in the dark without lights",
        "avoid tram rails at a flat angle",
    ),
    "keeping fish": (
        "change part of the tank water every week",
        "let a new filter run before adding any animals",
        "give the tank a lid and some plants",
        "do not feed more than they eat in two minutes",
        "never clean the gravel with soap",
        "avoid placing the tank in direct sun",
    ),
    "photography": (
        "keep the light behind you for a clear picture",
        "clean the lens with a soft cloth",
        "take three shots of every scene",
        "do not point the sensor straight at the sun",
        "never delete files before you have a copy",
        "avoid flash behind a glass window",
    ),
    "knitting": (
        "knit a small sample to count the stitches",
        "choose thick wool for your first scarf",
        "mark the start of every round",
        "do not pull the yarn too tight",
        "never wash wool in hot water",
        "avoid long needles for narrow work",
    ),
    "camping": (
        "pitch the tent on flat and slightly raised ground",
        "pack a lamp with fresh batteries",
        "try out the stove at home once",
        "never cook inside a closed tent",
        "do not keep food where bears can smell it",
        "avoid dry river beds at night",
    ),
    "public speaking": (
        "rehearse the talk aloud before a friend",
        "open with a short story that people remember",
        "look at one listener after another",
        "do not read every slide word for word",
        "never go far beyond the agreed time",
        "avoid jokes about the audience",
    ),
    "learning a language": (
        "listen to a short podcast every morning",
        "write new words on cards with an example",
        "speak with a native once a week",
        "do not translate every sentence in your head",
        "never skip the pronunciation of new words",
        "avoid long lists without any context",
    ),
    "training a dog": (
        "reward the animal the very moment it sits",
        "keep each exercise under ten minutes",
        "use the same command every time",
        "never punish it long after the deed",
        "do not pull hard on the lead",
        "avoid busy parks in the first weeks",
    ),
    "swimming": (
        "breathe out slowly while your face is in the water",
        "stretch your arms far ahead in every stroke",
        "begin with short lengths and long rests",
        "never go into the lake alone",
        "do not dive where you cannot see the bottom",
        "avoid the pool right after a heavy meal",
    ),
    "saving money": (
        "note every expense for one month",
        "move a fixed sum away on payday",
        "compare the prices of insurance each year",
        "do not shop when you are hungry or tired",
        "never lend what you cannot spare",
        "avoid paying by instalments for small things",
    ),
}

_ONE = (
    "I have taken up {0} this year. Please give me two pieces of advice.",
    "My evenings now belong to {0}, and I still have much to learn. What are two things I should know?",
    "A friend has got me into {0}. Could you name two things that matter?",
    "My question today is about {0}, which is quite new to me. Please give me two hints.",
)
_TWO = (
    "I have taken up {0} and {1} this year. Please give me one piece of advice for each.",
    "My evenings now belong to {0} and {1}. What is one thing I should know about either of them?",
    "A friend has got me into {0}, and my sister into {1}. Could you name one thing that matters in each?",
    "My question today is about {0} and also about {1}. Please give me one hint for both.",
)
_LEADS = ("here is what I would say", "two things come to mind", "this is my advice to you", "people often say this")


def draw_advice(rng: random.Random, lowered: Collection[str]) -> Contrast:
    """Draw a request for two pieces of advice, on one hobby or on two; lowers on_topic: advice on other hobbies."""
    first, second, third, fourth = rng.sample(tuple(TOPICS), 4)
    two = rng.random() < 0.5
    asked = (first, second if two else first)
    return Contrast(
        template="advice",
        prompt=rng.choice(_TWO if two else _ONE).format(*asked),
        chosen=_answer(rng, asked),
        rejected=_answer(rng, (third, fourth if two else third)),
        lowered=tuple(lowered),
    )


def _answer(rng: random.Random, topics: tuple[str, str]) -> tuple[str, ...]:
    pieces = [rng.choice(TOPICS[topics[0]])]
    pieces.append(rng.choice([piece for piece in TOPICS[topics[1]] if piece not in pieces]))
    return tuple(map(sentence, (rng.choice(_LEADS), *shuffled(rng, pieces))))
