"""The Beam graph: shards that TFDS reads, killed and run again, byte for byte what an uninterrupted run writes."""

import collections
import dataclasses
import json
import random
import subprocess
import sys
import time

import pytest
from fake_endpoint import Answer, FakeEndpoint

pytest.importorskip("apache_beam", reason="apache-beam is not installed: ./launch/setup.sh beam")

import tensorflow_datasets as tfds

from crome_jax.augment import Account, augment_groups, pipeline
from crome_jax.augment.card import Card
from crome_jax.augment.oracles import OfflineEditor
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.augment.oracles.choice import Augmentation
from crome_jax.augment.pipeline import Job, estimate_pipeline, plan_shards, run_pipeline
from crome_jax.augment.recipe import Recipe
from crome_jax.cli import main
from crome_jax.data.features import parse_group
from crome_jax.data.readers import read_groups
from crome_jax.data.writers import write_groups
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Comparison, build_group, to_json

TOPICS = ("whales sing", "bread rises", "stars shine", "glaciers move", "clocks tick", "bridges hold", "rivers bend")
GROUPS = [
    build_group(
        id=f"g{k}",
        prompt=f"How do {TOPICS[k % len(TOPICS)]}, question {k}?",
        responses=[f"The good answer number {k} is this one.", f"The bad answer number {k} is that one."],
        comparisons=[Comparison(0, 1)],
    )
    for k in range(22)
]


@pytest.fixture
def data(tmp_path):
    write_groups(tmp_path / "data", GROUPS, groups_per_shard=9)
    return tmp_path / "data"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_range_becomes_a_shard_of_what_it_alone_becomes_and_tfds_reads_them(data, tmp_path):
    job = Job(str(data), "train", str(tmp_path / "out"), Augmentation(), seed=3, groups_per_shard=8)
    card, facts = run_pipeline(job)
    expected, account = [], Account()
    together = Card(account, 3)
    for start in (0, 8, 16):
        part = GROUPS[start : start + 8]
        for group in augment_groups(part, oracle=OfflineEditor.of(part), seed=3, account=account):
            together.add(group)
            expected.append(to_json(group))
    assert [to_json(group) for group in read_groups(tmp_path / "out")] == expected
    assert card.account == account
    assert card.figures(facts) == together.figures(facts)
    assert card.sample == together.sample
    builder = tfds.builder_from_directory(tmp_path / "out")
    assert builder.info.splits["train"].shard_lengths == [8, 8, 6]
    assert len(builder.as_data_source("train")) == 22
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_ranges_cover_the_input_once(data, tmp_path):
    for size in (1, 7, 22, 1000):
        shards = plan_shards(Job(str(data), "train", str(tmp_path / "out"), Augmentation(), groups_per_shard=size))
        assert [k for shard in shards for k in range(shard.start, shard.stop)] == list(range(22))
        assert len({shard.name for shard in shards}) == len(shards) == -(-22 // size)


def test_a_dry_run_counts_what_a_run_then_sends(data, tmp_path):
    recipe = Recipe(rubrics_per_prompt=3, chain_steps=2)
    with FakeEndpoint() as endpoint:
        settings = ChatSettings("model-x", endpoint.url, cache=str(tmp_path / "cache"))
        job = Job(
            str(data), "train", str(tmp_path / "out"), Augmentation(recipe, "chat", settings), groups_per_shard=10
        )
        estimate = estimate_pipeline(job)
        assert endpoint.requests == []
        _, facts = run_pipeline(job)
        assert estimate.requests == len(endpoint.requests) == facts["requests sent"] == facts["replies"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"data": "nothing"}, "is no TFDS folder"),
        ({"split": "test"}, "is no TFDS folder with a split 'test'"),
        ({"out": "data"}, "exists already"),
        ({"chosen": Augmentation(baseline="runs/x")}, "a baseline filters in one process"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_written(data, tmp_path, change, problem):
    given = {"data": "data", "split": "train", "out": "out", "chosen": Augmentation(), **change}
    given |= {name: str(tmp_path / given[name]) for name in ("data", "out")}
    with pytest.raises(CromeError, match=problem):
        run_pipeline(Job(**given))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_error_of_the_oracle_is_said_as_it_is_and_what_was_done_is_kept(data, tmp_path):
    chosen = {"cache": str(tmp_path / "cache"), "attempts": 2, "backoff_s": 0.01, "concurrency": 4}
    with FakeEndpoint(lambda number, body: Answer(status=503) if number > 60 else None) as endpoint:
        settings = ChatSettings("model-x", endpoint.url, **chosen)
        job = Job(str(data), "train", str(tmp_path / "out"), Augmentation(Recipe(), "chat", settings), 0, 5)
        with pytest.raises(CromeError, match=r"^model-x at .* failed 2 times"):
            run_pipeline(job)
        assert not (tmp_path / "out").exists()
        assert list(job.work.glob("*.account.json"))
    other = Job(str(data), "train", str(tmp_path / "out"), Augmentation(Recipe(), "chat", settings), 1, 5)
    with pytest.raises(CromeError, match="unfinished run with another input, seed, recipe or oracle"):
        run_pipeline(other)


@pytest.mark.parametrize(
    ("runner", "options"),
    [
        ("direct", {"direct_num_workers": 2}),
        ("flink", {"flink_master": "here:8081", "parallelism": 4}),
        ("spark", {"spark_master_url": "spark://here:7077", "environment_type": "LOOPBACK"}),
        ("dataflow", {"project": "a-project", "region": "europe-west4", "temp_location": "gs://bucket/temp"}),
    ],
)
def test_flags_reach_the_runner(runner, options, data, tmp_path, monkeypatch, capsys):
    seen = {}

    def submit(*, options):
        seen.update(options.get_all_options(drop_default=True))
        raise RuntimeError("no cluster\nis there")

    monkeypatch.setattr(pipeline.beam, "Pipeline", submit)
    flags = [f"--beam-option=--{name}={value}" for name, value in options.items()]
    command = ["augment", "--data", str(data), "--out", str(tmp_path / "out"), "--beam", runner, *flags]
    if runner == "direct":  # What is wrong in this process is no matter of options.
        with pytest.raises(RuntimeError, match="no cluster"):
            main(command)
    else:
        assert main(command) == 2
        assert f"--beam {runner}: RuntimeError: no cluster is there; give what the" in capsys.readouterr().err
    name = {"direct": "DirectRunner", "flink": "FlinkRunner", "spark": "SparkRunner", "dataflow": "DataflowRunner"}
    assert seen == {"runner": name[runner], **options}
    assert not (tmp_path / "out").exists()


def test_what_a_runner_lacks_is_said_and_a_word_that_is_no_option_is_refused(data, tmp_path, capsys):
    command = ["augment", "--data", str(data), "--out", str(tmp_path / "out"), "--beam", "dataflow"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "Missing required option: project" in said
    assert "--beam-option=--project=ID" in said
    assert main([*command, "--beam-option=project=x"]) == 2
    assert "--beam-option=project=x: is no option of Beam; write --beam-option=--NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("dry", [False, True])
def test_a_record_that_is_no_group_is_named(dry, data, tmp_path, monkeypatch):
    def damaged(record):
        if b"question 10?" in record:
            raise DataError("is no group (DecodeError: wrong)", fix="write the data set again")
        return parse_group(record)

    monkeypatch.setattr(pipeline, "parse_group", damaged)
    job = Job(
        str(data), "train", str(tmp_path / "out"), Augmentation(oracle="chat", chat=ChatSettings("m", "http://x"))
    )
    with pytest.raises(CromeError, match=r"record 11 of .*data: is no group .* write the folder again"):
        estimate_pipeline(job) if dry else run_pipeline(dataclasses.replace(job, chosen=Augmentation()))


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--beam", "direct", "--groups-per-shard", "4"], []], ids=["beam", "in one process"])
def test_killed_at_random_points_and_run_again_the_data_are_the_same_to_the_byte(how, data, tmp_path):
    def command(endpoint, out):
        settings = {"base_url": endpoint.url, "cache": str(tmp_path / f"cache-{out}"), "concurrency": 4}
        gin = [f"--gin.ChatSettings.{name}={value!r}" for name, value in settings.items()]
        place = ["--data", str(data), "--out", str(tmp_path / out), *how]
        return [sys.executable, "-m", "crome_jax", "augment", *place, "--oracle", "chat", "--gin.MODEL='x'", *gin]

    with FakeEndpoint() as endpoint:
        subprocess.run(command(endpoint, "whole"), check=True, capture_output=True)
        requests = len(endpoint.requests)
    rng = random.Random(0)
    kills = 0
    with FakeEndpoint(lambda number, body: Answer(latency_s=0.03)) as endpoint:
        while True:
            process = subprocess.Popen(command(endpoint, "killed"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            until = len(endpoint.requests) + rng.randrange(15, 60)
            while process.poll() is None and (kills == 3 or len(endpoint.requests) < until):
                time.sleep(0.01)
            if process.poll() is not None:
                assert process.returncode == 0, process.stdout.read()
                break
            process.kill()
            process.communicate()
            kills += 1
            assert not (tmp_path / "killed").exists()
        sent = collections.Counter(json.dumps(body) for body in endpoint.requests)
    assert kills >= 2
    assert len(sent) == requests
    # What was under way when the process was killed had no reply to keep; nothing else is asked for twice.
    assert sent.total() - requests <= 4 * kills
    assert files(tmp_path / "killed").keys() == files(tmp_path / "whole").keys()
    for name, content in files(tmp_path / "whole").items():
        assert files(tmp_path / "killed")[name] == content
    assert (tmp_path / "killed.card.json").exists()
