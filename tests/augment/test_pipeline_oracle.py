"""The oracle of a Beam graph: one for all ranges of a process, whatever becomes of one of them."""

import collections
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from asking import GROUPS
from fake_endpoint import Answer, FakeEndpoint

pytest.importorskip("apache_beam", reason="apache-beam is not installed: ./launch/setup.sh beam")

from crome_jax.augment.job import Job
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.augment.oracles.choice import Augmentation
from crome_jax.augment.oracles.facts import add_facts
from crome_jax.augment.pipeline import _Augment, plan_shards
from crome_jax.augment.recipe import Recipe
from crome_jax.data.writers import write_groups
from crome_jax.errors import CromeError


def job(tmp_path, endpoint, **how):
    if not (tmp_path / "data").exists():
        write_groups(tmp_path / "data", GROUPS)
    settings = ChatSettings("model-x", endpoint.url, cache=str(tmp_path / "cache"), concurrency=16, **how)
    return Job(str(tmp_path / "data"), "train", str(tmp_path / "out"), Augmentation(Recipe(), "chat", settings), 0, 7)


def augment(part, shard):
    """Do with a shard what a worker does; return its record."""
    [(_, _, record)] = part.process((shard, GROUPS[shard.start : shard.stop]))
    return record


def test_what_is_under_way_when_a_range_fails_comes_in_and_is_not_paid_for_again(tmp_path):
    """Fifteen replies are under way when the key is refused; then the same range is begun again in the same process."""

    def behave(number, body):
        if number == 40:
            return Answer(status=401)
        return Answer(latency_s=1.0) if 24 < number < 40 else None

    with FakeEndpoint(behave) as endpoint:
        chosen = job(tmp_path, endpoint)
        part, [shard, _] = _Augment(chosen, apart=False), plan_shards(chosen)
        with pytest.raises(CromeError, match="HTTP 401"):
            augment(part, shard)
        assert endpoint.answered == 40
        assert augment(part, shard)["groups"] == 7
        bodies = [json.dumps(body) for number, body in enumerate(endpoint.requests) if number != 40]
    assert max(collections.Counter(bodies).values()) == 1


def test_ranges_at_work_at_the_same_time_count_their_own_requests(tmp_path):
    with FakeEndpoint(lambda number, body: Answer(latency_s=0.05)) as endpoint, ThreadPoolExecutor(2) as threads:
        chosen = job(tmp_path, endpoint)
        part = _Augment(chosen, apart=False)
        records = list(threads.map(lambda shard: augment(part, shard), plan_shards(chosen)))
        total = {}
        for record in records:
            add_facts(total, record["oracle"])
        assert total["requests sent"] == total["replies"] == len(endpoint.requests)
        assert total["tokens"] == 150 * len(endpoint.requests)
        # Again, from what was kept; by a run of another name all of it is an earlier run's.
        other = _Augment(dataclasses.replace(chosen, out=f"{chosen.out}-2"), apart=False)
        again = [augment(other, shard)["oracle"] for shard in plan_shards(chosen)]
    assert [facts["requests sent"] for facts in again] == [0, 0]
    assert sum(facts["replies kept from before"] for facts in again) >= total["replies"]
