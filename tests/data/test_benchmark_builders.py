"""Benchmarks are read from their files as they are published; what is wrong with a file is said by its place."""

import argparse
import concurrent.futures
import dataclasses
import functools
import hashlib
import http.server
import json
import threading

import pyarrow
import pyarrow.parquet
import pytest

from crome_jax.data.datasets.benchmarks import registry
from crome_jax.data.datasets.benchmarks.builder import Download, check_downloads
from crome_jax.data.datasets.benchmarks.registry import BENCHMARKS, manual_builder, read_benchmark
from crome_jax.data.datasets.benchmarks.rewordbench import transform_groups
from crome_jax.data.datasets.benchmarks.transformations import FAMILIES
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.readers import read_groups
from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.benchmarks.examples import read_examples
from crome_jax.evaluation.benchmarks.rewardbench import PRIOR_SETS
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.trivial_scorers import score_oracle
from crome_jax.training import processes
from crome_jax.verbs.evaluate import BENCHMARK_NAMES, _read_benchmarks

PAIR = {"prompt": "Name a colour.", "chosen": "Blue.", "rejected": "Seven."}
RECORDS = {
    "rewardbench": (
        "filtered-00000-of-00001.parquet",
        [PAIR | {"id": n, "subset": name, "chosen_model": "a"} for n, name in enumerate(("hep-go", "donotanswer"))],
    ),
    "rewardbench2": (
        "test-00000-of-00001.parquet",
        [
            {"id": "7", "subset": "Math", "prompt": "1+1?", "chosen": ["2"], "rejected": ["1", "3", "4"]},
            {"id": "tied:3", "subset": "Ties", "prompt": "A colour?", "chosen": ["red", "blue"], "rejected": ["one"]},
            {"id": "ref:3", "subset": "Ties", "prompt": "The sky's?", "chosen": ["blue"], "rejected": ["one", "two"]},
        ],
    ),
    "rm_bench": (
        "chat_filtered.json",
        [{"id": 1, "prompt": "Why?", "chosen": ["a", "a b", "**a** b"], "rejected": ["c", "c d", "**c** d"]}],
    ),
    "rewordbench": ("hep.jsonl", [PAIR | {"id": n, "subset": "hep-go"} for n in range(2)]),
    "judgebench": (
        "dataset=judgebench,response_model=x.jsonl",
        [
            {"pair_id": f"p{n}", "source": source, "question": "Why?", "response_A": f"a{n}", "response_B": "b"}
            | {"label": ("A>B", "B>A")[n % 2]}
            for n, source in enumerate(("mmlu-pro-law", "livebench-math", "livecodebench", "livebench-reasoning"))
        ],
    ),
    "llmbar": (
        "LLMBar/Adversarial/GPTInst/dataset.json",
        [{"input": f"Say {n}.", "output_1": "one", "output_2": "two", "label": 1 + n % 2} for n in range(3)],
    ),
    "pairs": (
        "mine.jsonl",
        [
            *(PAIR | {"id": n, "category": "colours"} for n in range(2)),
            {"id": 2, "prompt": "A colour?", "responses": ["one", "red"], "category": "colours"}
            | {"comparisons": [{"left": 0, "right": 1, "target": 0.0}]},
        ],
    ),
}
_PAIR = (["Blue."], ["Seven."])
SIDES = {
    "rewardbench": [_PAIR, _PAIR],
    "rewardbench2": [(["2"], ["1", "3", "4"]), (["red", "blue"], ["one"]), (["blue"], ["one", "two"])],
    "rm_bench": [(["a", "a b", "**a** b"], ["c", "c d", "**c** d"])],
    "rewordbench": [_PAIR, _PAIR],
    "judgebench": [(["a0"], ["b"]), (["b"], ["a1"]), (["a2"], ["b"]), (["b"], ["a3"])],
    "llmbar": [(["one"], ["two"]), (["two"], ["one"]), (["one"], ["two"])],
    "pairs": [_PAIR, _PAIR, (["red"], ["one"])],
}
"""The chosen and the rejected texts of RECORDS, in the benchmark's order."""


def write(folder, name, records):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif name.endswith(".json"):
        path.write_text(json.dumps(records, indent=2))
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read(name, folder, quarantine=None, config="hub"):
    return read_benchmark(name, folder, folder / "unused", quarantine, config)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_is_read_and_its_builder_gives_the_same(name, tmp_path):
    write(tmp_path / "files", *RECORDS[name])
    groups = read(name, tmp_path / "files")
    assert groups
    table = BENCHMARKS[name].measure(read_examples(groups, score_oracle(groups)), Bootstrap(20))
    assert table["score"] >= 1 - 1e-9
    builder = manual_builder(name, tmp_path / "files", tmp_path / "tfds")
    builder.download_and_prepare()
    assert list(read_groups(builder.data_dir)) == groups
    assert builder.info.as_proto.redistribution_info.license
    assert builder.info.citation or name == "pairs"


def test_the_command_line_knows_every_benchmark():
    assert set(BENCHMARK_NAMES) == set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_chosen_and_rejected_are_the_records(name, tmp_path):
    write(tmp_path, *RECORDS[name])
    groups = read(name, tmp_path)
    if name == "rewordbench":  # Before the transformations, which keep the sides: see below.
        groups = [group for group in groups if group.metadata["subset"] == "original"]
    assert [(texts(group, "chosen_at"), texts(group, "rejected_at")) for group in groups] == SIDES[name]
    for group, (chosen, rejected) in zip(groups, SIDES[name], strict=True):
        compared = [(group.responses[c.left].text, group.responses[c.right].text) for c in group.comparisons]
        assert compared == [(better, worse) for better in chosen for worse in rejected]
        assert {c.target for c in group.comparisons} == {1.0}


def texts(group, side):
    return [group.responses[int(at)].text for at in str(group.metadata[side]).split(",")]


def test_rewordings_keep_the_sides(tmp_path):
    write(tmp_path, *RECORDS["rewordbench"])
    quoted = [group for group in read("rewordbench", tmp_path) if group.metadata["subset"] == "add_quotes"]
    assert [(texts(group, "chosen_at"), texts(group, "rejected_at")) for group in quoted] == [
        (['"Blue."'], ['"Seven."'])
    ] * 2


def test_pairs_of_judgebench_are_told_by_the_model_that_wrote_them(tmp_path):
    name, records = RECORDS["judgebench"]
    write(tmp_path, name, records)
    write(tmp_path, name.replace("=x", "=y"), records)  # Ids that both files have are not the same pair's.
    write(tmp_path, "judgebench_z.jsonl", [records[0] | {"response_model": "z-1"}, records[1]])
    found = read("judgebench", tmp_path)
    assert sorted({str(g.metadata["subset"]).partition("/")[0] for g in found}) == ["judgebench_z", "x", "y", "z-1"]
    assert len({g.id for g in found}) == 10


def test_the_repositories_of_benchmarks_are_read_as_they_are(tmp_path):
    file, records = RECORDS["rm_bench"]
    both = [records[0] | {"domain": domain} for domain in ("chat", "math")]
    write(tmp_path / "RM-Bench", "data/total_dataset.json", both)
    assert [group.id for group in read("rm_bench", tmp_path / "RM-Bench")] == ["chat/1", "math/1"]
    for part in ("chat", "math"):
        write(tmp_path / "RM-Bench", f"data/{part}_filtered.json", records)
    for folder in (tmp_path / "RM-Bench", tmp_path / "RM-Bench" / "data", tmp_path):
        assert [group.id for group in read("rm_bench", folder)] == ["chat/1", "math/1"]
    file, records = RECORDS["judgebench"]
    write(tmp_path / "JudgeBench", f"data/{file}", records)
    judged = [record | {"judge_name": "arena_hard", "judgments": []} for record in records]
    write(tmp_path / "JudgeBench", f"outputs/{file.replace('.jsonl', ',judge_name=arena_hard.jsonl')}", judged)
    assert [group.id for group in read("judgebench", tmp_path / "JudgeBench")] == ["x/p0", "x/p1", "x/p2", "x/p3"]


def test_equal_texts_are_kept_as_the_benchmark_counts_them(tmp_path):
    write(tmp_path, "x.jsonl", [PAIR | {"id": 0, "subset": "hep-go", "chosen": "same", "rejected": "same"}])
    (group,) = read("rewardbench", tmp_path)
    table = BENCHMARKS["rewardbench"].measure(read_examples([group], [[3.0]]), Bootstrap(20))
    assert table["score"] == 0  # No reward of a text is above its own.


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("rewardbench", {"chosen": None}, "'chosen' is missing"),
        ("rewardbench", {"subset": "chatty"}, "'subset' is 'chatty'; RewardBench has alpacaeval-easy"),
        ("rewardbench", {"id": 1, "subset": "donotanswer"}, "'id' is 'donotanswer/1', the id of an earlier record"),
        ("rewardbench", {"language": "ko"}, "'language' is 'ko': this is another language's version"),
        ("rewardbench", {"rejected": "  "}, "'rejected' is empty"),
        ("rewardbench", {"subset": "mtbench_gpt4"}, "a set that the leaderboard's average leaves out"),
        ("rewardbench2", {"chosen": "2"}, "'chosen' is str, not a list of texts; this may be the first RewardBench"),
        ("rewardbench2", {"rejected": ["1"]}, "'rejected' has 1 chosen and 1 rejected responses"),
        ("rewardbench2", {"subset": "Ties"}, "'id' is '7', not ref:NUMBER or tied:NUMBER"),
        ("rewardbench2", {"subset": "Ties", "id": "tied:7", "chosen": ["1"]}, "'chosen' has a single right answer"),
        ("rm_bench", {"chosen": ["a"]}, "'chosen' is no list of 3 texts (concise, detailed, markdown)"),
        ("judgebench", {"label": "A=B"}, "'label' is 'A=B', not A>B or B>A"),
        ("judgebench", {"source": "trivia"}, "'source' is 'trivia'"),
        ("llmbar", {"label": 0}, "'label' is 0, not 1 or 2"),
        ("pairs", {"id": None}, "'id' is missing"),
    ],
)
def test_a_bad_record_is_named(name, change, problem, tmp_path):
    file, records = RECORDS[name]
    file = "rm_bench_chat.jsonl" if name == "rm_bench" else file.replace(".parquet", ".jsonl")
    write(tmp_path, file, [records[0] | change, *records[1:]])
    with pytest.raises(DataError) as error:
        read(name, tmp_path)
    assert problem in str(error.value)
    assert str(tmp_path / file) in str(error.value)
    assert "record " in str(error.value)
    if len(records) > 1:
        with Quarantine() as quarantine:
            assert len(read(name, tmp_path, quarantine)) == len(records) - 1
        assert quarantine.count == 1


TURNS = [{"role": r, "content": c} for r, c in (("user", "Hi"), ("assistant", "Yes?"), ("user", "A colour?"))]


def test_prior_sets_are_told_by_their_files_and_others_beside_them_left_alone(tmp_path):
    """As the hub has them: a prompt is the turns before the answer, `subset` may be the set's own, ids are numbers."""
    record = PAIR | {"prompt": TURNS, "id": 0}
    for name in (*PRIOR_SETS, "summarize_prompted", "anthropic_harmless", "pku_safer"):
        write(tmp_path, f"{name}-00000-of-00001.parquet", [record | {"subset": "helpful"}])
    write(tmp_path, *RECORDS["rewardbench"])
    groups = read("rewardbench", tmp_path, config="prior_sets")
    assert {g.metadata["subset"] for g in groups} == {*PRIOR_SETS, "hep-go", "donotanswer"}
    assert len(groups) == len(PRIOR_SETS) + 2
    assert [m.content for m in next(g for g in groups if g.id == "shp/0").prompt] == ["Hi", "Yes?", "A colour?"]
    measure = functools.partial(BENCHMARKS["rewardbench"].measure, prior_sets=True)
    assert measure(read_examples(groups, score_oracle(groups)), Bootstrap(20))["score"] == pytest.approx(1)


def test_prior_sets_are_read_where_they_are_asked_for_and_reworded_nowhere(tmp_path):
    for name in PRIOR_SETS:
        write(tmp_path, f"{name}-00000-of-00001.parquet", [PAIR | {"id": 0, "subset": "helpful"}])
    with pytest.raises(DataError, match="holds no file of RewardBench"):
        read("rewardbench", tmp_path)
    write(tmp_path, *RECORDS["rewardbench"])
    assert {group.metadata["subset"] for group in read("rewardbench", tmp_path)} == {"hep-go", "donotanswer"}
    own = [group for group in read("rewordbench", tmp_path) if group.metadata["subset"] == "original"]
    assert [group.id for group in own] == ["original/hep-go/0", "original/donotanswer/1"]


def test_prior_sets_that_records_name_are_refused_by_rewardbench_and_passed_over_by_rewordbench(tmp_path):
    write(tmp_path, "mine.jsonl", [PAIR | {"id": n, "subset": name} for n, name in enumerate(("shp", "hep-go"))])
    with pytest.raises(DataError, match=r"record 1 of .*: 'subset' is 'shp', a prior set; pass --prior-sets"):
        read("rewardbench", tmp_path)
    assert len(read("rewardbench", tmp_path, config="prior_sets")) == 2
    own = [group.id for group in read("rewordbench", tmp_path) if group.metadata["subset"] == "original"]
    assert own == ["original/hep-go/1"]
    write(tmp_path, "mine.jsonl", [PAIR | {"id": 0, "subset": "shp"}])
    with pytest.raises(DataError, match="reWordBench: all pairs are of prior sets"):
        read("rewordbench", tmp_path)


def test_prior_sets_are_downloaded_where_they_are_asked_for(tmp_path, monkeypatch):
    asked = []

    def download(manager, urls):
        asked.append(urls)
        records = {
            name: [PAIR | {"id": 0, "subset": "hep-go", "prompt": "One?" if "filtered" in name else TURNS}]
            for name in urls
        }
        return {name: write(tmp_path / "got", name, some) for name, some in records.items()}

    monkeypatch.setattr("tensorflow_datasets.download.DownloadManager.download", download)
    monkeypatch.setattr("crome_jax.data.datasets.benchmarks.builder.check_downloads", lambda *given: None)
    subsets = lambda config: [  # noqa: E731
        g.metadata["subset"] for g in read_benchmark("rewardbench", None, tmp_path / "tfds", config=config)
    ]
    assert subsets("hub") == ["hep-go"]
    assert subsets("prior_sets") == ["hep-go", *PRIOR_SETS]
    assert [len(urls) for urls in asked] == [1, 1 + len(PRIOR_SETS)]


def test_no_file_and_no_usable_record_are_errors(tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        read("rm_bench", tmp_path / "nowhere")
    write(tmp_path, "x.jsonl", [PAIR])
    with pytest.raises(DataError, match=r"holds no file of RM-Bench; it should hold the repository's \*_filtered"):
        read("rm_bench", tmp_path)
    with Quarantine() as quarantine, pytest.raises(DataError, match="all 1 records are bad, the first because"):
        read("rewardbench", tmp_path, quarantine)
    write(tmp_path, "x.jsonl", [])
    with pytest.raises(DataError, match="is empty"):
        read("rewardbench", tmp_path)


def test_a_file_without_a_record_is_an_error_where_others_have_some(tmp_path):
    write(tmp_path, *RECORDS["llmbar"])
    empty = write(tmp_path, "LLMBar/Natural/dataset.json", [])
    for quarantine in (None, Quarantine()):
        with pytest.raises(DataError, match=r"Natural/dataset\.json: holds no record; get the file again"):
            read("llmbar", tmp_path, quarantine)
    empty.unlink()
    assert len(read("llmbar", tmp_path)) == 3
    other = tmp_path / "other"
    write(other, *RECORDS["rewardbench"])
    nothing = pyarrow.Table.from_pylist([PAIR | {"id": 0, "subset": "hep-java"}])[:0]
    pyarrow.parquet.write_table(nothing, other / "hep-java.parquet")
    with pytest.raises(DataError, match=r"hep-java\.parquet: holds no record"):
        read("rewardbench", other)


def test_a_download_is_checked(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"benchmark")
    digest = hashlib.sha256(b"benchmark").hexdigest()
    check_downloads({Download("https://hub/x", digest, "x"): path})
    with pytest.raises(DataError, match=r"https://hub/x: has sha256 .*, not 0000"):
        check_downloads({Download("https://hub/x", "0000", "x"): path}, accepted=[digest])
    # `printf benchmark | git hash-object --stdin`
    check_downloads({Download("https://hub/x", None, "x", git_blob="b26bca2dd54d89b22a4ff853e08def0ae0577ec0"): path})
    with pytest.raises(
        DataError, match=r"https://hub/x: has git id b26bca2dd54d89b22a4ff853e08def0ae0577ec0, not 0000"
    ):
        check_downloads({Download("https://hub/x", None, "x", git_blob="0000"): path}, accepted=[digest])


def test_a_download_that_nothing_is_known_of_is_used_only_where_the_user_vouches_for_it(hub, tmp_path, monkeypatch):
    url, files, asked = hub
    content = json.dumps(RECORDS["llmbar"][1]).encode()
    files["/Natural/dataset.json"] = content
    served(monkeypatch, url, None)
    digest = hashlib.sha256(content).hexdigest()
    message = rf"not used: {url}/Natural/dataset\.json has sha256 {digest}; .*--accept-sha256 {digest}; or give"
    for accepted in ([], ["0" * 64]):
        with pytest.raises(DataError, match=message):
            read_benchmark("llmbar", None, tmp_path / "kept", accepted=accepted)
    assert not list((tmp_path / "kept").rglob("*.array_record*"))
    found = read_benchmark("llmbar", None, tmp_path / "kept", accepted=[digest])
    assert len(found) == 3
    assert asked == ["/Natural/dataset.json"]  # What was refused is not fetched again.
    assert read_benchmark("llmbar", None, tmp_path / "kept") == found  # Offline, and without asking once more.


def test_downloads_are_pinned_to_a_revision():
    for benchmark in BENCHMARKS.values():
        sources = [config.source or benchmark.source for config in benchmark.builder.BUILDER_CONFIGS]
        for item in (item for source in sources for item in source.downloads):
            assert "/main/" not in item.url
            assert item.url.startswith("https://")
            assert item.sha256 is None or len(bytes.fromhex(item.sha256)) == 32
            assert item.git_blob is None or len(bytes.fromhex(item.git_blob)) == 20


def test_what_cannot_be_downloaded_says_what_to_do(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(BENCHMARKS["llmbar"].builder, "download_and_prepare", fail)
    with pytest.raises(CromeError, match=r"LLMBar: cannot be downloaded \(no route to host\); .* --manual_dir"):
        read_benchmark("llmbar", None, tmp_path)
    with pytest.raises(CromeError, match="there is nothing to download"):
        read_benchmark("pairs", None, tmp_path)


def test_transformations_are_the_same_for_equal_seeds_and_change_what_they_say(tmp_path):
    subsets = ("hep-python", "math-prm", "donotanswer", "alpacaeval-easy")
    records = [
        {
            "id": n,
            "subset": subset,
            "prompt": "Please write down, carefully, how this works.",
            "chosen": "def area(side):\n\n    return side * side  \nThe final answer: $\\boxed{7}$",
            "rejected": "def area(side):\n\n    return side + side  \nThe wrong answer: $\\boxed{8}$",
        }
        for subset in subsets
        for n in range(2)
    ]
    write(tmp_path, "x.jsonl", records)
    groups = list(read_benchmark("rewardbench", tmp_path, tmp_path))
    once, again, other = (list(transform_groups(groups, seed)) for seed in (0, 0, 1))
    assert once == again != other
    names = {transformation.__name__ for family in FAMILIES.values() for transformation in family}
    assert {group.metadata["subset"] for group in once} == names | {"original"}
    assert len({group.id for group in once}) == len(once)
    texts = {
        name: {(g.prompt, frozenset(r.text for r in g.responses)) for g in once if g.metadata["subset"] == name}
        for name in names | {"original"}
    }
    for name in names:
        assert texts[name].isdisjoint(texts["original"])
    by_id = {group.id: group for group in once}
    said = lambda name, n: [r.text for r in by_id[f"{name}/{n}"].responses]  # noqa: E731
    assert all(text.startswith('"') for text in said("add_quotes", "donotanswer/0"))
    assert any("# Answer\n\n7" in text for text in said("swap_format", "math-prm/0"))
    for said_of_it in ("bad", "good"):
        lines = [f"return side {sign} side  # {said_of_it}" for sign in "*+"]
        assert all(any(line in text for text in said(f"comment_{said_of_it}", "hep-python/0")) for line in lines)
    assert "ROT-13" in by_id["rot_13/donotanswer/0"].prompt[0].content
    # Domain-targeted ones leave the others alone.
    assert "code_minification/donotanswer/0" not in by_id
    assert "jailbreak_1/hep-python/0" not in by_id


@pytest.fixture
def hub(tmp_path):
    """A web server on loopback: what it serves, by path, and the paths that were asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *arguments):
            pass

    files, asked = {}, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files, asked
    server.shutdown()
    server.server_close()


def served(monkeypatch, url, sha256):
    """Let LLMBar's file come from there."""
    download = Download(f"{url}/Natural/dataset.json", sha256, "Natural/dataset.json")
    source = dataclasses.replace(BENCHMARKS["llmbar"].source, downloads=(download,))
    monkeypatch.setattr(BENCHMARKS["llmbar"].builder, "source", source)


def test_a_benchmark_is_downloaded_checked_and_kept(hub, tmp_path, monkeypatch):
    url, files, asked = hub
    content = json.dumps(RECORDS["llmbar"][1]).encode()
    files["/Natural/dataset.json"] = content
    served(monkeypatch, url, hashlib.sha256(content).hexdigest())
    found = read_benchmark("llmbar", None, tmp_path / "kept")
    assert [(group.metadata["subset"], len(group.responses)) for group in found] == [("Natural", 2)] * 3
    assert asked == ["/Natural/dataset.json"]
    assert read_benchmark("llmbar", None, tmp_path / "kept") == found
    assert len(asked) == 1  # The second time it is there.


def test_where_several_processes_evaluate_one_downloads_and_the_others_find_it(hub, tmp_path, monkeypatch):
    url, files, asked = hub
    content = json.dumps(RECORDS["llmbar"][1]).encode()
    files["/Natural/dataset.json"] = content
    served(monkeypatch, url, hashlib.sha256(content).hexdigest())
    # Two threads stand in for the processes.
    together, number = threading.Barrier(2, timeout=60), threading.local()
    monkeypatch.setattr(processes, "wait_for_all", lambda what: together.wait())
    monkeypatch.setattr(processes, "is_first", lambda: number.of_process == 0)
    args = argparse.Namespace(data_dir=tmp_path / "kept", prior_sets=False, accept_sha256=())

    def read_as(process):
        number.of_process = process
        return _read_benchmarks(args, {"llmbar": None}, None)[0]["llmbar"]

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, other = pool.map(read_as, (0, 1))
    assert first == other
    assert asked == ["/Natural/dataset.json"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"another file", "has sha256 .*, not 0000"),
        (None, "LLMBar: cannot be downloaded .*name their folder with --manual_dir"),
    ],
)
def test_a_download_that_is_another_file_or_none_is_said_and_nothing_kept(hub, tmp_path, monkeypatch, content, problem):
    url, files, _ = hub
    files["/Natural/dataset.json"] = content
    served(monkeypatch, url, "0" * 64)
    with pytest.raises(CromeError, match=problem):
        read_benchmark("llmbar", None, tmp_path / "kept")
    assert not list((tmp_path / "kept").rglob("*.array_record*"))


def test_an_endpoint_that_is_not_there_is_said(tmp_path, monkeypatch):
    served(monkeypatch, "http://127.0.0.1:9", "0" * 64)
    monkeypatch.setattr(registry, "RETRIES", 1)
    with pytest.raises(CromeError, match="LLMBar: cannot be downloaded"):
        read_benchmark("llmbar", None, tmp_path / "kept")
