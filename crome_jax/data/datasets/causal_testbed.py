"""The causal testbed: an English preference data set whose causal graph is known.

Quality is decided by a response's causal attributes, in relation to its prompt. In training, spurious attributes go
along with quality; in the test splits they are reversed, absent, or of unseen kinds. Every record says its attributes,
and which of them are spurious: for evaluation by spurious stratum (evaluation/strata.py), not for training.

How hard the questions are was settled by what SmolLM2-135M learns from 500 clean labels (config `plain`). Kinds of
error that stayed at chance there (a slip in a sum, two values swapped, an outdated value by itself) were left out: what
no method can learn tells none of them apart. One change had another cause: harmful and benign requests say what they
are for since Crome was seen to fail on safety.
"""

import dataclasses
import random
from collections.abc import Callable, Collection, Iterator, Mapping

import tensorflow_datasets as tfds

from crome_jax.data.datasets.testbed.advice import draw_advice
from crome_jax.data.datasets.testbed.arithmetic import draw_stories
from crome_jax.data.datasets.testbed.contrast import CAUSAL_ATTRIBUTES, Contrast
from crome_jax.data.datasets.testbed.facts import draw_changed_facts, draw_facts
from crome_jax.data.datasets.testbed.portraits import draw_portrait
from crome_jax.data.datasets.testbed.requests import draw_request
from crome_jax.data.datasets.testbed.style import SPURIOUS_ATTRIBUTES, UNSEEN_ATTRIBUTES, draw_attributes, render
from crome_jax.data.features import encode_group, group_features
from crome_jax.errors import CromeError
from crome_jax.groups import Comparison, PreferenceGroup, Response, build_group

SPLITS = ("train", "validation", "in_distribution", "reversed", "absent", "unseen")

_Draw = Callable[[random.Random, Collection[str]], Contrast]

TEMPLATES: Mapping[str, Mapping[tuple[str, ...], tuple[_Draw, ...]]] = {
    "chat": {
        ("correct",): (draw_facts,),
        ("complete",): (draw_facts,),
        ("on_topic",): (draw_advice,),
        ("correct", "complete"): (draw_facts,),
    },
    "chat-hard": {
        ("correct",): (draw_changed_facts, draw_portrait),
        ("complete",): (draw_changed_facts,),
        ("on_topic",): (draw_portrait,),
        ("correct", "complete"): (draw_changed_facts,),
        ("correct", "on_topic"): (draw_portrait,),
    },
    "safety": {("appropriate",): (draw_request,)},
    "reasoning": {
        ("correct",): (draw_stories,),
        ("complete",): (draw_stories,),
        ("on_topic",): (draw_stories,),
        ("correct", "complete"): (draw_stories,),
        ("correct", "on_topic"): (draw_stories,),
    },
}
"""By RewardBench's categories: which templates can lower which causal attributes."""

_TWO_LOWERED = 0.15
"""Share of pairs whose rejected response is worse in two attributes, where a category has such pairs."""

_TRIES = 10_000
"""Draws before a question that occurs nowhere else is given up."""

_TEST_SPLITS = ("in_distribution", "reversed", "absent", "unseen")
_QUESTIONS = {"train": "train", "validation": "validation"} | dict.fromkeys(_TEST_SPLITS, "test")
"""Which questions a split asks. The test splits ask the same ones, so that between them only the style differs."""


@dataclasses.dataclass(eq=False)
class CausalTestbedConfig(tfds.core.BuilderConfig):
    """How many records to draw, and how strongly style goes along with quality.

    Args:
        correlation: probability that a spurious attribute is present in a chosen response, in [0, 1]; in a rejected
            one it is present with probability 1 - correlation. The split `reversed` swaps the two.
        plain: whether train, validation and in_distribution have no spurious attributes at all.
        seed: of every draw.
        train, validation, in_distribution, reversed, absent, unseen: sizes in pairs.

    Raises:
        CromeError: where the correlation is no probability, or a size is negative.
    """

    # Where one response of a pair has an attribute and the other has not, it is the chosen one in 0.7^2 / (0.7^2 +
    # 0.3^2) = 84% of pairs; all six attributes together guess nine labels in ten, so some pairs still teach quality.
    correlation: float = 0.7
    plain: bool = False
    seed: int = 0
    train: int = 600
    validation: int = 150
    in_distribution: int = 400
    reversed: int = 400
    absent: int = 200
    unseen: int = 400

    def __post_init__(self):
        if not 0 <= self.correlation <= 1:
            raise CromeError(f"correlation is {self.correlation}; give a probability in [0, 1]")
        for split in SPLITS:
            if self.size(split) < 0:
                raise CromeError(f"the size of split {split} is {self.size(split)}; give 0 or more")

    def size(self, split: str) -> int:
        """Return how many pairs the split holds.

        Raises:
            CromeError: where there is no such split.
        """
        if split not in SPLITS:
            raise CromeError(f"the causal testbed has no split {split!r}; choose one of {', '.join(SPLITS)}")
        return getattr(self, split)


def generate_groups(config: CausalTestbedConfig, split: str) -> Iterator[PreferenceGroup]:
    """Generate a split's groups: one prompt, a chosen and a rejected response, one human comparison each.

    The same config gives the same groups. A prompt occurs once in a split, and neither a prompt nor a response's core
    of train occurs in validation or a test split, nor one of validation in a test split. What the test splits' safety
    requests are about occurs in neither train nor validation.

    Raises:
        CromeError: where there is no such split, or the splits are too large to be kept apart.
    """
    count = config.size(split)
    for i, (category, contrast) in enumerate(_questions(config, _QUESTIONS[split], count)):
        yield _styled(config, split, i, category, contrast)


def _questions(config: CausalTestbedConfig, name: str, count: int) -> list[tuple[str, Contrast]]:
    """Draw a list of questions that shares no prompt and no core with the lists drawn before it."""
    sizes = {"test": max(config.size(split) for split in _TEST_SPLITS), "validation": config.validation}
    taken: set = set()
    for earlier, size in sizes.items():
        if earlier == name:
            break
        for _, contrast in _draw_questions(config.seed, earlier, size, taken):
            taken |= {contrast.prompt, _core(contrast.chosen), _core(contrast.rejected)}
    return _draw_questions(config.seed, name, count, taken)


def _core(sentences: Collection[str]) -> frozenset[str]:
    """Return what identifies a core: the same sentences in another order say the same."""
    return frozenset(sentences)


def _draw_questions(seed: int, name: str, count: int, taken: Collection) -> list[tuple[str, Contrast]]:
    rng = random.Random(f"{seed}/{name}/questions")
    categories = tuple(TEMPLATES)
    questions, prompts = [], set()
    for i in range(count):
        category = categories[i % len(categories)]
        # Drawn once: a template with fewer texts, whose draws are turned down more often, gets its share of pairs.
        lowered, template = _draw_template(rng, category)
        for _ in range(_TRIES):
            contrast = template(rng, lowered)
            drawn = {contrast.prompt, _core(contrast.chosen), _core(contrast.rejected)}
            # Harmful and benign requests alternate: else the more frequent kind would say whether to refuse.
            in_turn = category != "safety" or contrast.harmful == (i // len(categories)) % 2
            in_place = contrast.held_out in (None, name == "test")
            if in_turn and in_place and contrast.prompt not in prompts and drawn.isdisjoint(taken):
                break
        else:
            raise CromeError(
                f"the causal testbed has no new {category} question for pair {i} of the {name} splits; "
                "ask for smaller splits"
            )
        questions.append((category, contrast))
        prompts.add(contrast.prompt)
    return questions


def _draw_template(rng: random.Random, category: str) -> tuple[tuple[str, ...], _Draw]:
    """Draw the attributes to lower, each as likely as another, and a template that can."""
    templates = TEMPLATES[category]
    twos = [lowered for lowered in templates if len(lowered) == 2]
    ones = [lowered for lowered in templates if len(lowered) == 1]
    lowered = rng.choice(twos if twos and rng.random() < _TWO_LOWERED else ones)
    return lowered, rng.choice(templates[lowered])


def _styled(config: CausalTestbedConfig, split: str, i: int, category: str, contrast: Contrast) -> PreferenceGroup:
    # A source of its own for each record, apart from the questions': another correlation leaves the questions as
    # they are, and a longer split begins with the shorter one.
    rng = random.Random(f"{config.seed}/{split}/{i}/style")
    attributes, p_chosen = _style(config, split)
    chosen = _response(rng, contrast.chosen, attributes, p_chosen, ())
    rejected = _response(rng, contrast.rejected, attributes, 1 - p_chosen, contrast.lowered)
    favours_chosen, favours_rejected = (
        sum(bool(a.metadata[name]) and not b.metadata[name] for name in SPURIOUS_ATTRIBUTES + UNSEEN_ATTRIBUTES)
        for a, b in ((chosen, rejected), (rejected, chosen))
    )
    winner = rng.randrange(2)
    return build_group(
        id=f"{split}-{i:05d}",
        prompt=contrast.prompt,
        responses=(chosen, rejected) if winner == 0 else (rejected, chosen),
        comparisons=[Comparison(left=winner, right=1 - winner)],
        metadata={
            "category": category,
            "split": split,
            "template": contrast.template,
            "harmful": contrast.harmful,
            "lowered": "+".join(contrast.lowered),
            "spurious_attributes": ",".join(attributes),
            "spurious_for_chosen": favours_chosen,
            "spurious_for_rejected": favours_rejected,
        },
    )


def _style(config: CausalTestbedConfig, split: str) -> tuple[tuple[str, ...], float]:
    """Return the split's spurious attributes and their probability in a chosen response."""
    if split == "reversed":
        return SPURIOUS_ATTRIBUTES, 1 - config.correlation
    if split == "unseen":
        return UNSEEN_ATTRIBUTES, 1 - config.correlation
    if split == "absent" or config.plain:
        return (), 0.0
    return SPURIOUS_ATTRIBUTES, config.correlation


def _response(
    rng: random.Random, core: tuple[str, ...], attributes: tuple[str, ...], probability: float, lowered: tuple[str, ...]
) -> Response:
    present = draw_attributes(rng, attributes, probability)
    wording = rng.getrandbits(31)
    return Response(
        text=render(core, present, wording),
        metadata={
            **{name: name not in lowered for name in CAUSAL_ATTRIBUTES},
            **{name: name in present for name in SPURIOUS_ATTRIBUTES + UNSEEN_ATTRIBUTES},
            "core": " ".join(core),
        },
    )


class CausalTestbed(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the causal testbed."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS declares it so)
    BUILDER_CONFIGS = [  # noqa: RUF012
        CausalTestbedConfig(name="standard", description="Style alone guesses nine labels in ten."),
        CausalTestbedConfig(name="mild", correlation=0.6, description="Style favours quality a little."),
        CausalTestbedConfig(name="strong", correlation=0.85, description="Style all but gives quality away."),
        CausalTestbedConfig(name="independent", correlation=0.5, description="Style says nothing about quality."),
        CausalTestbedConfig(name="plain", plain=True, description="Training data without style."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Pairs of English responses whose quality is decided by known causal attributes "
                f"({', '.join(CAUSAL_ATTRIBUTES)}), in four categories as RewardBench has them. Spurious attributes "
                f"({', '.join(SPURIOUS_ATTRIBUTES)}) go along with quality in train, validation and in_distribution; "
                "they are reversed in `reversed`, missing in `absent`, and others "
                f"({', '.join(UNSEEN_ATTRIBUTES)}) favour the rejected response in `unseen`. Words alone do not tell "
                "quality: what is right for one prompt is wrong for another. Written by a program; no text is from "
                "elsewhere."
            ),
            features=group_features(),
            license="Apache-2.0",
            citation=(
                "@article{srivastava2025crome,\n"
                "  title={Robust Reward Modeling via Causal Rubrics},\n"
                "  author={Srivastava, Pragya and Singh, Harman and Madhavan, Rahul and Patil, Gandharv and Addepalli, "
                "Sravanti and Suggala, Arun and Aravamudhan, Rengarajan and Sharma, Soumya and Laha, Anirban and "
                "Raghuveer, Aravindan and Shanmugam, Karthikeyan and Precup, Doina},\n"
                "  journal={arXiv preprint arXiv:2506.16507},\n"
                "  year={2025}\n"
                "}"
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in SPLITS if self.builder_config.size(split)}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        for group in generate_groups(self.builder_config, split):
            yield group.id, encode_group(group)
