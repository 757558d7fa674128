"""Spurious attributes: what may go along with quality and never decides it.

Style is put on a finished core, so an attribute can be added or taken away without touching what is said. Phrases say
nothing about the question: they fit any answer, a right one as well as a wrong one or a refusal.
"""

import random
from collections.abc import Collection, Sequence

SPURIOUS_ATTRIBUTES = ("long", "bullets", "polite", "confident", "flattering", "offering")
"""Those of the training data: general remarks, a list, openings of three kinds, a closing offer of more help."""

UNSEEN_ATTRIBUTES = ("heading", "emoji", "capitals", "authority", "sign_off")
"""Those met only in the split `unseen`."""

_REMARKS = (
    "It often helps to read things through twice.",
    "Small details can make a real difference.",
    "People look at such matters in many ways.",
    "There is always a little more to say.",
    "Questions of this kind come up quite often.",
    "A calm look at the whole picture is worthwhile.",
    "Many of us learn such things over time.",
    "It is good to see where everything fits in.",
    "Much has been written on matters like this.",
    "A second thought is rarely wasted on anything.",
    "Together these points form a picture to keep in mind.",
    "Every situation is a little different from the next.",
)
_PHRASES = {
    "polite": ("Thank you for asking.", "Thanks for your message.", "It is kind of you to write.",
               "It is a pleasure to hear from you.", "Many thanks for getting in touch.", "I appreciate your writing."),
    "flattering": ("What a clever question.", "You have put that very well.", "That is a really thoughtful message.",
                   "You clearly have a sharp mind.", "Few people would word it so nicely.", "Great thinking."),
    "confident": ("I am completely certain of this.", "There is no doubt about it.", "Without question, this is it.",
                  "You can rely on this fully.", "I know this for a fact.", "Trust me on this one."),
    "offering": ("Let me know if I can do anything else.", "Just write again whenever you like.",
                 "Feel free to come back with more.", "I am here if you need more.",
                 "Do not hesitate to ask again.", "If anything else comes up, just tell me."),
    "heading": ("## Answer", "## Reply", "# In brief", "## Overview", "# Response", "### Result"),
    "emoji": ("😊", "👍✨", "🎉", "🌟😀", "🚀", "💡🙂"),
    "capitals": ("THIS IS VERY IMPORTANT.", "PLEASE READ CAREFULLY.", "PAY ATTENTION HERE.", "TAKE NOTE OF THIS.",
                 "REMEMBER THIS WELL.", "READ EVERY WORD."),
    "authority": ("Leading experts agree.", "Studies at top universities confirm it.", "Every professor says the same.",
                  "This is backed by recent research.", "Doctors and scientists hold this view.",
                  "A famous handbook puts it that way."),
    "sign_off": ("Warm regards, your assistant", "All the best, your helper", "Yours sincerely, the assistant",
                 "With kind wishes, your assistant", "Cheers, your friendly helper", "Take care, your assistant"),
}  # fmt: skip


def draw_attributes(rng: random.Random, attributes: Sequence[str], probability: float) -> frozenset[str]:
    """Draw which attributes are present, each on its own with the probability."""
    return frozenset([name for name in attributes if rng.random() < probability])


def render(core: Sequence[str], attributes: Collection[str], wording: int) -> str:
    """Put spurious attributes on a response's core.

    Args:
        core: the response's sentences.
        attributes: any of SPURIOUS_ATTRIBUTES and UNSEEN_ATTRIBUTES.
        wording: seeds the choice of phrases. Each attribute's phrase depends on it alone, so two renderings of one
            core that share it differ only in the attributes that are not in both.

    Returns:
        The response's text; the core's sentences joined by spaces where there are no attributes.
    """
    rng = random.Random(wording)
    phrase = {name: rng.choice(pool) for name, pool in _PHRASES.items()}
    remarks = rng.sample(_REMARKS, 2)

    before = [phrase[n] for n in ("polite", "flattering", "confident", "authority", "capitals") if n in attributes]
    after = [*remarks] if "long" in attributes else []
    after += [phrase[n] for n in ("offering", "emoji") if n in attributes]
    if "bullets" in attributes:
        text = "\n".join([" ".join(before), *(f"- {sentence}" for sentence in core), " ".join(after)]).strip("\n")
    else:
        text = " ".join([*before, *core, *after])
    heading = [phrase["heading"]] if "heading" in attributes else []
    sign_off = [phrase["sign_off"]] if "sign_off" in attributes else []
    return "\n".join([*heading, text, *sign_off])
