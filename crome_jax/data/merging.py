"""Groups of one prompt made one, so that its prompt and shared responses are encoded once."""

import dataclasses
from collections.abc import Iterable

from crome_jax.groups import Comparison, Message, PreferenceGroup, Response, Scalar, build_group


def merge_prompts(groups: Iterable[PreferenceGroup]) -> list[PreferenceGroup]:
    """Merge the groups whose prompts are equal.

    Equal responses become the first of them; every comparison is kept, contradictory ones too. A merged group has the
    id of its first group and the metadata of all, where of several values the first stands.

    Returns:
        One group for each distinct prompt, in the order in which the prompts came first.
    """
    by_prompt: dict[tuple[Message, ...], list[PreferenceGroup]] = {}
    for group in groups:
        by_prompt.setdefault(group.prompt, []).append(group)
    return [_merged(same) if len(same) > 1 else same[0] for same in by_prompt.values()]


def _merged(groups: list[PreferenceGroup]) -> PreferenceGroup:
    responses: list[Response] = []
    comparisons: list[Comparison] = []
    metadata: dict[str, Scalar] = {}
    for group in groups:
        offset = len(responses)
        for response in group.responses:
            parent = None if response.parent is None else response.parent + offset
            responses.append(dataclasses.replace(response, parent=parent))
        comparisons += [dataclasses.replace(c, left=c.left + offset, right=c.right + offset) for c in group.comparisons]
        metadata = {**group.metadata, **metadata}
    first = groups[0]
    return build_group(
        id=first.id, prompt=first.prompt, responses=responses, comparisons=comparisons, metadata=metadata
    )
