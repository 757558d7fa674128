"""The Beam graph: shards that TFDS reads, killed and run again, byte for byte what an uninterrupted run writes."""

import collections
import dataclasses
import json
import random
import shutil
import socket
import subprocess
import sys
import time

import pytest
from cloud import be_gs
from fake_endpoint import Answer, FakeEndpoint
from toy import CFG, text_groups

pytest.importorskip("apache_beam", reason="apache-beam is not installed: ./launch/setup.sh beam")

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from crome_jax.augment import Account, augment_groups, pipeline
from crome_jax.augment.baseline import keep_unsure
from crome_jax.augment.card import Card
from crome_jax.augment.job import Job, account_path, start_job
from crome_jax.augment.oracles import OfflineEditor
from crome_jax.augment.oracles.chat.prompts import FOLDER
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.augment.oracles.choice import Augmentation
from crome_jax.augment.pipeline import estimate_pipeline, plan_shards, run_pipeline
from crome_jax.augment.recipe import Recipe
from crome_jax.cli import main
from crome_jax.data.features import parse_group
from crome_jax.data.readers import read_groups
from crome_jax.data.writers import write_groups
from crome_jax.errors import CromeError, DataError
from crome_jax.files import locked
from crome_jax.groups import Comparison, build_group, from_json, to_json
from crome_jax.training.digests import write_digests
from crome_jax.training.run_cards import ModelCard, write_card

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
    assert card.figures(facts, {}) == together.figures(facts, {})
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
        assert list((job.work / "accounts").glob("*.json"))
    other = Job(str(data), "train", str(tmp_path / "out"), Augmentation(Recipe(), "chat", settings), 1, 5)
    with pytest.raises(CromeError, match="unfinished run that differs from this one in seed; run that one"):
        run_pipeline(other)


def test_a_run_killed_at_its_very_end_has_its_card_and_the_same_command_ends_it_without_a_trace(
    data, tmp_path, monkeypatch
):
    job = Job(str(data), "train", str(tmp_path / "out"), Augmentation(), 0, 8)
    cards = []

    def killed(card, facts):
        cards.append(card)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pipeline(job, report=killed)
    assert not (tmp_path / "out").exists()
    litter = job.made / ".1f.array_record.abcdef.partial"
    litter.mkdir()
    (litter / "finished").write_text("half a shard, of a worker that was killed")
    monkeypatch.setattr(pipeline, "_write", lambda element, job: pytest.fail("a shard is made again"))
    run_pipeline(job, report=lambda card, facts: cards.append(card))
    assert cards[0].account == cards[1].account
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"dataset_info.json", "features.json", *(shard.name for shard in plan_shards(job))}
    # Killed once it had its name, it leaves a folder that the next look at it takes away.
    (job.work / "accounts").mkdir(parents=True)
    with pytest.raises(CromeError, match="exists already"):
        run_pipeline(job)
    assert not job.work.exists()


def test_a_baseline_is_loaded_once_a_process_and_drops_what_it_is_sure_of_range_by_range(tmp_path, monkeypatch):
    from test_baseline import model

    groups = [dataclasses.replace(group, comparisons=group.comparisons[:1]) for group in text_groups(9)]
    write_groups(tmp_path / "data", groups)
    loaded = []
    monkeypatch.setattr("crome_jax.training.train.load_run", lambda run: loaded.append(run) or model())
    trained = {name: trained_run(tmp_path / name) for name in ("x", "y")}
    chosen = Augmentation(Recipe(permutations=2, neutrals_per_group=0), baseline=trained["x"], unsure_kinds=())
    job = Job(str(tmp_path / "data"), "train", str(tmp_path / "out"), chosen, 3, 5)
    card, _ = run_pipeline(job)
    assert loaded == [job.chosen.baseline]
    account, expected = Account(), []
    for part in (groups[:5], groups[5:]):
        own = Account()
        made = augment_groups(part, oracle=OfflineEditor.of(part), recipe=chosen.recipe, seed=3, account=own)
        expected += [to_json(group) for group in keep_unsure(made, model(), account=own, kinds=())]
        account.merge(own)
    assert [to_json(group) for group in read_groups(tmp_path / "out")] == expected
    assert card.account == account
    assert sum(n for (by, _, _), n in account.dropped.items() if by == "baseline") > 0
    again = dataclasses.replace(job, out=f"{job.out}-2")
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(again, report=interrupt)
    with pytest.raises(CromeError, match="differs from this one in baseline; run that one"):
        run_pipeline(dataclasses.replace(again, chosen=dataclasses.replace(chosen, baseline=trained["y"])))
    # The same folder, trained once more.
    shutil.rmtree(tmp_path / "x")
    trained_run(tmp_path / "x", "other weights")
    with pytest.raises(CromeError, match="differs from this one in contents of the baseline; run that one"):
        run_pipeline(again)


def trained_run(folder, weights="weights"):
    """Write what tells a run from every other: its card, and a checkpoint."""
    decoder = dataclasses.asdict(CFG)
    rows = {"row_tokens": 48, "row_responses": 8, "row_comparisons": 8}
    prints = {f"{what}_fingerprint": "1f" for what in ("backbone", "tokenizer", "data")}
    said = {"method": "bradley_terry", "dtype": "float32", "settings": {}}
    write_card(folder, ModelCard(backbone="tiny", decoder=decoder, trainable=1, **rows, **prints, **said))
    state = folder / "checkpoints" / "7" / "state"
    state.mkdir(parents=True)
    (state / "head").write_text(weights)
    write_digests(state.parent)
    return str(folder)


def interrupt(card, facts):
    raise KeyboardInterrupt


def test_a_run_goes_on_only_with_the_input_and_the_prompts_that_it_began_with(tmp_path):
    data = tmp_path / "data"
    write_groups(data, GROUPS[:3], groups_per_shard=2)
    shutil.copytree(FOLDER / "crome-1", tmp_path / "prompts")
    with FakeEndpoint() as endpoint:
        settings = ChatSettings(
            "model-x", endpoint.url, cache=str(tmp_path / "cache"), prompts=str(tmp_path / "prompts")
        )
        job = Job(str(data), "train", str(tmp_path / "out"), Augmentation(oracle="chat", chat=settings), 0, 2)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(job, report=interrupt)
        sent = len(endpoint.requests)
        # A mended converter writes as many groups to the same place: their shards would stand beside the old ones'.
        first = to_json(GROUPS[0])
        write_groups(
            data, [from_json(first.replace("good", "better")), *GROUPS[1:3]], groups_per_shard=2, overwrite=True
        )
        with pytest.raises(CromeError, match="differs from this one in contents of the data; run that one to its end"):
            run_pipeline(job)
        write_groups(data, GROUPS[:3], groups_per_shard=2, overwrite=True)
        asked = (tmp_path / "prompts" / "degrade.txt").read_text()
        (tmp_path / "prompts" / "degrade.txt").write_text(f"{asked}\nBe brief.\n")
        with pytest.raises(CromeError, match="differs from this one in model or prompts; run that one"):
            run_pipeline(job)
        (tmp_path / "prompts" / "degrade.txt").write_text(asked)
        (data / ".DS_Store").write_text("a file manager's")
        run_pipeline(job)
        assert len(endpoint.requests) == sent


def test_a_shard_that_two_workers_write_is_the_first_ones_with_its_account(data, tmp_path):
    job = Job(str(data), "train", str(tmp_path / "out"), Augmentation(), 0, 22)
    [shard] = plan_shards(job)
    start_job(job, [shard])
    pipeline._write((shard, GROUPS[:2], {"groups": 2}), job)
    pipeline._write((shard, GROUPS[:5], {"groups": 5}), job)
    record = json.loads(account_path(job, shard).read_text())
    assert record["groups"] == 2
    assert ArrayRecordReader(str(job.made / record["file"])).num_records() == 2


def test_of_two_workers_that_write_a_shard_at_once_one_has_shard_and_account(data, tmp_path, monkeypatch):
    job = Job(str(data), "train", str(tmp_path / "out"), Augmentation(), 0, 22)
    [shard] = plan_shards(job)
    start_job(job, [shard])
    serialize = pipeline.serialize_group

    def faster(group):  # When the first begins to write, the second comes, and has done.
        monkeypatch.setattr(pipeline, "serialize_group", serialize)
        pipeline._write((shard, GROUPS[:5], {"groups": 5}), job)
        return serialize(group)

    monkeypatch.setattr(pipeline, "serialize_group", faster)
    pipeline._write((shard, GROUPS[:2], {"groups": 2}), job)
    record = json.loads(account_path(job, shard).read_text())
    assert ArrayRecordReader(str(job.made / record["file"])).num_records() == record["groups"]


def test_the_same_job_is_not_run_twice_at_once(data, tmp_path):
    job = Job(str(data), "train", str(tmp_path / "out"), Augmentation())
    job.work.mkdir()
    with locked(job.work / "lock"), pytest.raises(CromeError, match="another process is at work on it"):
        run_pipeline(job)
    run_pipeline(job)


def test_a_path_is_the_same_for_a_worker_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").mkdir()
    settings = ChatSettings("m", cache="cache", prompts="prompts")
    job = Job("data", "train", "out", Augmentation(oracle="chat", chat=settings, baseline="runs/x"))
    chosen = job.chosen
    places = (job.data, job.out, job.run, chosen.chat.cache, chosen.chat.prompts, chosen.baseline)
    assert places == tuple(str(tmp_path / name) for name in ("data", "out", "out", "cache", "prompts", "runs/x"))
    assert ChatSettings("m").absolute().prompts == "crome-1"
    there = Job("gs://bucket/data", "train", "gs://bucket/out", Augmentation())
    assert (there.data, there.out) == ("gs://bucket/data", "gs://bucket/out")


@pytest.fixture
def bucket(data, tmp_path, monkeypatch):
    """A bucket that holds the data, which are nowhere else."""
    be_gs(tmp_path / "cloud", monkeypatch)
    monkeypatch.chdir(tmp_path)  # Where a mangled path would leave a folder gs:.
    data.rename(tmp_path / "apart")
    yield "gs://bucket"
    assert not (tmp_path / "gs:").exists()


def test_a_job_in_a_bucket_becomes_the_same_shards_as_one_here(bucket, tmp_path):
    shutil.copytree(tmp_path / "apart", tmp_path / "cloud" / "bucket" / "data")
    flags = ["--beam", "direct", "--groups-per-shard", "8"]
    for data, out in (("apart", "out"), (f"{bucket}/data", f"{bucket}/out")):
        assert main(["augment", "--data", data, "--out", out, *flags]) == 0
    here, there = files(tmp_path / "out"), files(tmp_path / "cloud" / "bucket" / "out")
    assert here.keys() == there.keys()
    assert all(there[name] == content for name, content in here.items() if "array_record" in name)
    assert list(read_groups(f"{bucket}/out")) == list(read_groups(tmp_path / "out"))
    left = sorted(path.name for path in (tmp_path / "cloud" / "bucket").iterdir())
    assert left == ["data", "out", "out.card.html", "out.card.json"]
    assert main(["augment", "--data", "apart", "--out", f"{bucket}/out", *flags]) == 2
    assert main(["augment", "--data", "apart", "--out", f"{bucket}/data", *flags]) == 2


def test_a_job_in_a_bucket_that_was_killed_amid_its_shards_goes_on(bucket, tmp_path, monkeypatch):
    write_groups(f"{bucket}/data", GROUPS, groups_per_shard=9)
    job = Job(f"{bucket}/data", "train", f"{bucket}/out", Augmentation(), 0, 8)

    def killed(card, facts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pipeline(job, report=killed)
    out = tmp_path / "cloud" / "bucket" / "out"
    assert not (out / "dataset_info.json").exists()  # Without which it is no data set.
    sorted(out.iterdir())[0].unlink()
    monkeypatch.setattr(pipeline, "_write", lambda element, job: pytest.fail("a shard is made again"))
    run_pipeline(job)
    assert len(list(read_groups(job.out))) == len(GROUPS)
    assert not job.work.exists()


def test_what_several_machines_may_share_has_a_cache_for_each(tmp_path):
    settings = ChatSettings("m", cache=str(tmp_path / "cache"))
    chosen = Augmentation(oracle="chat", chat=settings)
    assert pipeline._placed(chosen, False) == chosen
    assert pipeline._placed(chosen, True).chat.cache == str(tmp_path / "cache" / socket.gethostname())
    uncached = dataclasses.replace(chosen, chat=dataclasses.replace(settings, cache=None))
    assert pipeline._placed(uncached, True) == uncached


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
