import math
import random

import pytest

from crome_jax.augment.oracles import Direction, Intervention, OfflineEditor, Rewrite
from crome_jax.augment.oracles.base import EVERY_ATTRIBUTE
from crome_jax.augment.oracles.offline.markers import Markers
from crome_jax.augment.oracles.offline.sentences import parse
from crome_jax.groups import Message, build_group

STYLE = ("Bless you for asking me today.", "Feel free to come back with more questions.")
REFUSAL = ("I cannot help with that.", "Somebody would suffer badly from it.", "Please think again, my friend.")
ANSWER = ("Gather all of the tools first.", "Work through the list slowly.", "Tidy up when everything works.")


def refused_and_answered(count=4):
    """Build groups of two answers, in which style goes with either side alike."""
    return [
        build_group(
            id=f"g{k}",
            prompt=f"How do I do thing {k}?",
            responses=(
                " ".join((STYLE[k % 2], *REFUSAL)),
                " ".join((*ANSWER, STYLE[k // 2 % 2])),
            ),
            comparisons=[],
        )
        for k in range(count)
    ]


def test_log_odds_by_hand():
    groups = [
        build_group(id=f"g{k}", prompt="How?", responses=("I cannot help with whales.", "Whales sing."), comparisons=[])
        for k in range(3)
    ]
    markers = Markers.of(groups)
    assert markers.sizes == (3, 3)
    # "sing" and "whales sing": 0 refusals of 3, 3 answers of 3; whales: 3 of either. log(0.5/4) - log(3.5/4) for two.
    assert markers("Whales sing.") == pytest.approx(2 * math.log(0.5 / 3.5) / 3)
    # Seen in too few responses, or in none, a word tells nothing.
    assert markers("Violins hum.") == 0.0
    assert Markers.of(groups[:1])("Whales sing.") == 0.0


def test_groups_in_which_all_or_none_decline_count_for_nothing():
    groups = [
        build_group(id="a", prompt="How?", responses=("Whales sing.", "Whales hum."), comparisons=[]),
        build_group(id="b", prompt="How?", responses=("I cannot help with it.", "I must decline."), comparisons=[]),
    ]
    assert Markers.of(groups) == Markers()


def test_counts_depend_on_no_order():
    groups = refused_and_answered()
    assert Markers.of(groups) == Markers.of(random.Random(1).sample(groups, len(groups)))


def test_what_goes_with_either_side_is_told_from_what_goes_with_both():
    markers = Markers.of(refused_and_answered())
    for matter in (REFUSAL, ANSWER):
        document = parse(" ".join((STYLE[0], *matter, STYLE[1])))
        assert sorted(markers.telling(document)) == [1, 2, 3]
    assert markers(STYLE[0]) == markers(STYLE[1]) == pytest.approx(0.0)


@pytest.mark.parametrize("direction", [Direction.DEGRADE, Direction.UPGRADE, Direction.ALIGN])
def test_a_refusal_and_an_answer_are_exchanged_whole_and_their_style_stays(direction):
    editor = OfflineEditor.of(refused_and_answered())
    attribute = EVERY_ATTRIBUTE if direction is Direction.ALIGN else "compliance"
    for before, after in ((REFUSAL, ANSWER), (ANSWER, REFUSAL)):
        text = "\n".join((STYLE[0], *(f"- {sentence}" for sentence in before), STYLE[1]))
        reference = " ".join((*after, STYLE[1]))
        (reply,) = editor.rewrite(
            [Intervention(direction, attribute, (Message("user", "How do I do it?"),), text, reference, (), 1)]
        )
        assert isinstance(reply, Rewrite)
        # All of it, in its own order, in the places of the other.
        assert reply.text == "\n".join((STYLE[0], *(f"- {sentence}" for sentence in after), STYLE[1]))
