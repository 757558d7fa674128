"""Best-of-N is the mean over all sets, judges read what their benchmark reads, an endpoint is asked as it should be."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from browser import look
from fake_endpoint import Answer, FakeEndpoint
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.data.quarantine import Quarantine
from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.best_of_n import best_of_n, best_of_n_curve, sizes
from crome_jax.evaluation.best_of_n_figures import best_of_n_figures
from crome_jax.evaluation.best_of_n_page import render_best_of_n
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.candidate_endpoint import ask_candidates
from crome_jax.evaluation.candidate_judges import JUDGES, fingerprint_verdicts, judge_candidates, load_judge
from crome_jax.evaluation.candidates import Candidates, read_candidates, read_prompts
from crome_jax.evaluation.exact_match import exact_match
from crome_jax.evaluation.refusal import refuses
from crome_jax.groups import Message
from crome_jax.verbs.best_of_n import JUDGE_NAMES

BOOTSTRAP = Bootstrap(resamples=50)


def test_best_of_two_by_hand():
    # Rewards 1 < 2 < 3, values 0, 1, 0. Of the three pairs the best is the second once, the third twice: 1/3.
    assert best_of_n(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0]), 2) == pytest.approx(1 / 3)
    assert best_of_n(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0]), 1) == pytest.approx(1 / 3)
    assert best_of_n(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0]), 3) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=7), st.data())
def test_it_is_the_mean_over_all_sets_whatever_rewards_are_equal(candidates, data):
    rewards, values = (np.array(column, float) for column in zip(*candidates, strict=True))
    n = data.draw(st.integers(1, len(candidates)))
    picked = []
    for drawn in itertools.combinations(range(len(candidates)), n):
        best = max(rewards[i] for i in drawn)
        picked.append(np.mean([values[i] for i in drawn if rewards[i] == best]))
    assert best_of_n(rewards, values, n) == pytest.approx(np.mean(picked))


def test_many_candidates_do_not_overflow():
    rewards = np.arange(1000.0)
    assert best_of_n(rewards, rewards, 1000) == 999
    # The expected largest of n among 0..m-1 drawn without replacement is n (m + 1) / (n + 1) - 1.
    assert best_of_n(rewards, rewards, 500) == pytest.approx(500 * 1001 / 501 - 1)


def test_trivial_pickers_get_what_arithmetic_says():
    rng = np.random.default_rng(0)
    values = [(rng.random(16) < 0.3).astype(float) for _ in range(200)]
    oracle = best_of_n_curve(values, values, np.arange(200), BOOTSTRAP)["curve"]
    assert [point["n"] for point in oracle] == [1, 2, 4, 8, 16]
    assert oracle[-1]["value"] == np.mean([v.any() for v in values])
    assert all(point["value"] == pytest.approx(point["oracle"]) for point in oracle)
    constant = best_of_n_curve([np.zeros(16)] * 200, values, np.arange(200), BOOTSTRAP)["curve"]
    assert all(point["value"] == pytest.approx(np.mean(values)) == point["random"] for point in constant)
    worst = best_of_n_curve([-v for v in values], values, np.arange(200), BOOTSTRAP)["curve"]
    assert worst[-1]["value"] == np.mean([v.all() for v in values])


@pytest.mark.parametrize(
    ("value", "prompts", "expected"),
    [
        # Wilson, z = 1.95996, as of accuracies: n = 10 all right gives 10 / (10 + z^2).
        (1.0, np.arange(10), (0.72247, 1.0)),
        (0.0, np.arange(10), (0.0, 0.27753)),
        (1.0, np.repeat(np.arange(10), 4), (0.72247, 1.0)),  # Forty records of ten prompts say no more than ten.
    ],
)
def test_no_spread_of_best_of_n_does_not_mean_certainty(value, prompts, expected):
    # Of other numbers of candidates, the chances to be picked add up to 1 but for rounding.
    values = [np.full(3 + n % 5, value) for n in range(len(prompts))]
    rewards = [np.arange(len(v), dtype=float) for v in values]
    found = best_of_n_curve(rewards, values, prompts, BOOTSTRAP)
    assert found["prompts"] == 10
    assert all(point["interval"] == pytest.approx(expected, abs=1e-5) for point in found["curve"])


def test_best_of_n_draws_prompts_whatever_records_they_are_in():
    worth = [np.array([n % 2, n % 3 > 0], float) for n in range(6)]
    rewards = [np.array([0.0, 1.0])] * 6
    once = best_of_n_curve(rewards, worth, np.arange(6), BOOTSTRAP)
    four = best_of_n_curve(rewards * 4, worth * 4, np.tile(np.arange(6), 4), BOOTSTRAP)
    for few, many in zip(once["curve"], four["curve"], strict=True):
        assert many["interval"] == pytest.approx(few["interval"])
        assert few["interval"][0] < few["value"] < few["interval"][1]


def test_sizes_and_their_limits():
    assert sizes(1) == [1]
    assert sizes(12) == [1, 2, 4, 8, 12]
    with pytest.raises(CromeError, match="best of 3 needs 3 candidates, and there are 2"):
        best_of_n(np.zeros(2), np.zeros(2), 3)
    with pytest.raises(CromeError, match="is not finite"):
        best_of_n(np.array([0.0, np.nan]), np.zeros(2), 1)


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("She pays 3 * 4 = 12 dollars.\n#### 12", "#### 12", 1),
        ("The answer is $1,200.00.", "1200", 1),
        ("So it is \\boxed{7} apples, of 9.", "#### 7", 1),
        ("First 5, then 6.", "#### 6", 1),
        ("First 5, then 6.", "#### 5", 0),
        ("No number here", "#### 5", 0),
        ("-3", "#### 3", 0),
        ("It is 0.50", "0.5", 1),
        ("The final answer is: 5. That is 3 more than 2.", "5", 1),
        ("The answer is \\$18. It took 3 days.", "18", 1),
        ("The answer is \\(42\\), found in 3 steps.", "42", 1),
        ("**Answer:** 42, in 3 steps.", "42", 1),
        ("So \\boxed{1{,}200}, of 9.", "1200", 1),
        ("So \\boxed{\\$12.50} for 3.", "12.5", 1),
        ("So the answer is 3 * 4 = 12.", "12", 1),
        ("The answer is 48/2 = 24", "24", 1),
        ("Answer: 20-5=15", "15", 1),
        ("#### 48/2 = 24", "24", 1),
        ("So \\boxed{3 \\times 4 = 12} of 13 = 12 + 1.", "12", 1),
        ("The answer is (3 + 4) x 2 = $14. And 14 / 7 = 2.", "14", 1),
        ("The answer is 5 hours * 3 = 15 dollars, as 3 = 15 / 5.", "15", 1),
        ("The answer is 10 + 2 = 12 = 3 * 4.", "12", 1),
        ("The answer is 3 * .25 = .75", "0.75", 1),
        ("The answer is 12 = 3 * 4.", "12", 1),
        ("The answer is 5 if x = 3.", "5", 1),
        ("The answer is 5km * 2 = 10km", "10", 1),
        ("The answer is \N{MINUS SIGN}5.", "-5", 1),
        ("The answer is 20 \N{MINUS SIGN} 5 = 15.", "15", 1),
        ("The answer is 5 because 12 - 7 = 5 and 7 = 3 + 4.", "5", 1),
        ("The answer is 12 - which is 3 * 4 = 12 or 6 * 2 - 0 = 2 * 6.", "12", 1),
        ("The answer is 5-10 minutes.", "5", 1),
        ("The answer is 12 (as 4 = 2 * 2, not 3 = 1).", "12", 1),
        ("The answer is 2(3+4) = 14.", "14", 1),
        ("The answer is 3/4.", "3", 0),
        ("The answer is 3/4.", "0.75", 1),
        ("The answer is 36 / 3 dollars", "12", 1),
        ("The answer is 5/0", "5", 1),
        ("The answer is 12 (3 dozen = 36).", "12", 1),
    ],
)
def test_numbers_are_extracted_and_compared(text, answer, right):
    assert exact_match(text, answer) == right


def test_gsm8k_answers_match_themselves(shared_data):
    lines = _records(shared_data / "train" / "gsm8k_test.jsonl.gz")
    assert all(exact_match(record["answer"], record["answer"]) == 1 for record in lines)


def _records(path):
    import gzip

    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "text", ["I'm sorry, but I can't help.", "I’m unable to assist with that.", "I will not do it."]
)
def test_refusals_are_told_by_their_beginning(text):
    assert refuses(text)
    assert not refuses("Here is how: " + "step " * 60 + text)


def item(n=0, texts=("Sorry, no.", "Sure: do this."), **facts):
    raw = {"prompt": f"Prompt {n}?", "candidates": list(texts), **facts}
    return Candidates(str(n), (Message("user", raw["prompt"]),), tuple(texts), facts, raw, n + 1)


def judged(judge, *items, own=None):
    return [judge_candidates(judge, one, own).tolist() for one in items]


def test_judges_read_their_fields():
    assert tuple(JUDGES) == JUDGE_NAMES
    assert judged("exact", item(texts=("#### 4", "5"), answer=4)) == [[1, 0]]
    assert judged("refusal", item(harmful=True), item(harmful=False)) == [[1, 0], [0, 1]]
    assert judged("refusal", item(harmful=True, refused=[False, True])) == [[0, 1]]  # Another judge's verdicts.
    assert judged("preference", item(preferences=[0.2, 1], baseline="x")) == [[0.2, 1]]


def test_a_judge_of_the_user_s_stands_in_for_each_rule(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def judge(record, candidates):\n    return [record['prompt'][-2] in text for text in candidates]\n"
    )
    own = load_judge(f"{tmp_path / 'mine.py'}:judge")
    texts = ("It is 7.", "It is 8.")
    assert judged("exact", item(7, texts, answer=8), own=own) == [[1, 0]]
    assert judged("refusal", item(7, texts, harmful=True, refused=[False, True]), own=own) == [[1, 0]]
    assert judged("refusal", item(7, texts, harmful=False), own=own) == [[0, 1]]
    assert judged("preference", item(7, texts, baseline="x"), own=own) == [[1, 0]]
    half = lambda record, candidates: np.full(len(candidates), 0.5)  # noqa: E731
    assert judged("preference", item(baseline="x"), own=half) == [[0.5, 0.5]]
    with pytest.raises(DataError, match="'harmful' is not true or false"):
        judged("refusal", item(), own=own)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("def judge(record, candidates): return [True]", "gives no list of 2 booleans or numbers from 0 to 1"),
        ("def judge(record, candidates): return [0.5, 2.0]", "gives no list of 2 booleans or numbers from 0 to 1"),
        ("def judge(record, candidates): return [0.5, float('nan')]", "gives no list of 2 booleans or numbers"),
        ("def judge(record, candidates): return record['no']", r"judge: fails on record '0' \(KeyError: 'no'\)"),
        ("judge = 3", "has no function 'judge'"),
        ("1 / 0", r"cannot be run \(ZeroDivisionError"),
    ],
)
def test_a_judge_of_the_user_s_that_fails_is_named(tmp_path, body, problem):
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(CromeError, match=problem):
        judged("preference", item(baseline="x"), own=load_judge(f"{tmp_path / 'mine.py'}:judge"))
    with pytest.raises(CromeError, match="there is no such file"):
        load_judge(f"{tmp_path / 'other.py'}:judge")


@pytest.mark.parametrize(
    ("judge", "facts", "problem"),
    [
        ("exact", {}, "'answer' is missing or holds no number"),
        ("exact", {"answer": True}, "'answer' is missing or holds no number"),
        ("refusal", {"harmful": "yes"}, "'harmful' is not true or false"),
        ("refusal", {"harmful": True, "refused": [True]}, "'refused' is no list of 2 booleans"),
        ("preference", {"baseline": "x"}, "'preferences' is no list of 2 numbers"),
        ("preference", {"baseline": "x", "preferences": [0.5]}, "'preferences' is no list of 2 numbers"),
        ("preference", {"baseline": "x", "preferences": [0.5, 2.0]}, "'preferences' is no list of 2 numbers"),
        ("preference", {"baseline": "x", "preferences": [0.5, True]}, "'preferences' is no list of 2 numbers"),
        ("preference", {"preferences": [0.5, 0.5]}, "'baseline' is missing"),
        ("preference", {"baseline": "x", "instruction_difficulty": "1"}, "'instruction_difficulty' is '1', no number"),
        ("preference", {"baseline": "x", "instruction_difficulty": math.nan}, "'instruction_difficulty' is nan, no n"),
    ],
)
def test_what_a_judge_lacks_is_named(judge, facts, problem):
    with pytest.raises(DataError, match=problem):
        judged(judge, item(**facts))


def test_attack_success_and_over_refusal_by_hand():
    # The model prefers the second candidate. Harmful: complied with at N = 2. Benign: answered.
    items = [item(0, harmful=True), item(1, harmful=False)]
    values = [judge_candidates("refusal", one) for one in items]
    figures = best_of_n_figures(items, [np.array([0.0, 1.0])] * 2, values, "refusal", BOOTSTRAP)
    assert [point["value"] for point in figures["attack_success"]["curve"]] == [0.5, 1.0]
    assert [point["oracle"] for point in figures["attack_success"]["curve"]] == [0.5, 0.0]
    assert [point["value"] for point in figures["over_refusal"]["curve"]] == [0.5, 0.0]
    assert [point["value"] for point in figures["curve"]] == [0.5, 0.5]
    page = render_best_of_n({**figures, "title": "<b>", "facts": {"model": "<i>"}})
    assert "Attack success" in page
    assert page.count("<svg") == 3  # The curve, and one of each rate.
    assert "share of benign prompts refused" in page
    assert "<i>" not in page
    assert "<script" not in page


def test_of_no_success_the_page_shows_how_far_it_is_from_certain():
    items = [dataclasses.replace(item(n, harmful=True), prompt=(Message("user", f"{n % 25}?"),)) for n in range(50)]
    figures = best_of_n_figures(items, [np.array([0.0, 1.0])] * 50, [np.ones(2)] * 50, "refusal", BOOTSTRAP)
    assert figures["attack_success"]["prompts"] == 25
    # Wilson of 0 of 25, z = 1.95996: z^2 / (25 + z^2).
    assert figures["attack_success"]["curve"][1]["interval"] == pytest.approx([0, 0.13319], abs=1e-5)
    page = render_best_of_n({**figures, "title": "", "facts": {}})
    assert '<td>0.0<span class="range">0.0–13.3</span></td>' in page
    assert "the Wilson interval over prompts" in page


def test_verdicts_are_told_apart_by_what_they_are_and_by_what_judges_read():
    def print_of(verdict=1.0, **facts):
        item = Candidates("a", (Message("user", "Why?"),), ("one", "two"), facts, "", 1)
        return fingerprint_verdicts([item], [np.array([verdict, 0.0])])

    assert print_of(answer=4) == print_of(answer=4, source="elsewhere")
    prints = {print_of(), print_of(0.5), print_of(answer=4), print_of(answer=5), print_of(baseline="so")}
    assert len(prints | {print_of(baseline="so", instruction_difficulty=1.5)}) == 6


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"prompt": "a"}, "'candidates' is missing"),
        ({"prompt": "a", "candidates": ["", "b"]}, r"'candidates\[0\]' is empty"),
        ({"candidates": ["b"]}, "'prompt' is missing"),
        ({"id": 0, "prompt": "a", "candidates": ["b"]}, "'id' is '0', the id of an earlier record"),
    ],
)
def test_a_bad_record_of_candidates_is_named(record, problem, tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"id": 0, "prompt": "a", "candidates": ["b", "b"]}, record])))
    with pytest.raises(DataError, match=rf"record 2 of .*c.jsonl: {problem}"):
        read_candidates(path, lambda item: None)


def prompts(*records):
    """What read_prompts gives."""
    return [
        Candidates(str(n), (Message("user", record["prompt"]),), (".",), {}, record, n + 1)
        for n, record in enumerate(records)
    ]


def test_prompts_need_no_candidates_and_are_checked_before_any_is_written(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"prompt": "a", "answer": 1}, {"prompt": "b", "answer": "none"}])))
    check = lambda item: JUDGES["exact"].check(item.facts)  # noqa: E731
    with pytest.raises(DataError, match=r"record 2 of .*p.jsonl: 'answer' is missing or holds no number"):
        read_prompts(path, check)
    with Quarantine() as quarantine:
        (found,) = read_prompts(path, check, quarantine)
    assert (found.raw, found.number, quarantine.count) == ({"prompt": "a", "answer": 1}, 1, 1)


def settings(url, place, **values):
    return ChatSettings(
        model="m", base_url=url, structured="none", cache=str(place), backoff_s=0.001, concurrency=4, **values
    )


def test_an_endpoint_writes_candidates_each_with_a_seed_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key-of-the-test")
    busy = lambda n, body: Answer(status=503) if n == 1 else Answer(f"answer {body['seed']}")  # noqa: E731
    records = [{"prompt": "One?", "answer": 1}, {"prompt": "Two?"}]
    seen = []
    with FakeEndpoint(busy) as endpoint:
        named = settings(endpoint.url, tmp_path, temperature=0.9, api_key_env="OPENAI_API_KEY")
        found = ask_candidates(prompts(*records), named, 3, seen.append)
        assert len(endpoint.requests) == 7  # It was busy once.
        again = ask_candidates(prompts(*records), settings(endpoint.url, tmp_path, temperature=0.9), 3)
        assert len(endpoint.requests) == 7  # What is kept is not paid for again.
        more = ask_candidates(prompts(*records), settings(endpoint.url, tmp_path, temperature=0.9), 4)
        assert len(endpoint.requests) == 9
    expected = ["answer 0", "answer 1", "answer 2"]
    assert found == again == [records[0] | {"candidates": expected}, records[1] | {"candidates": expected}]
    assert more[0]["candidates"] == [*expected, "answer 3"]
    assert len(seen) == 6
    # Four are asked at once: which comes first is chance.
    body = next(body for body in endpoint.requests if body["messages"] == [{"role": "user", "content": "One?"}])
    assert (body["model"], body["temperature"]) == ("m", 0.9)
    assert "response_format" not in body
    assert endpoint.headers[0]["authorization"] == "Bearer secret-key-of-the-test"


def test_candidates_that_came_before_a_failure_are_kept(tmp_path):
    spent = lambda n, body: Answer(status=401) if n == 2 else Answer("yes")  # noqa: E731
    records = [{"prompt": f"{n}?"} for n in range(4)]
    with FakeEndpoint(spent) as endpoint:
        one = dataclasses.replace(settings(endpoint.url, tmp_path), concurrency=1)
        with pytest.raises(CromeError, match="HTTP 401"):
            ask_candidates(prompts(*records), one, 1)
        assert len(endpoint.requests) == 3
        assert len(ask_candidates(prompts(*records), one, 1)) == 4
        assert len(endpoint.requests) == 3 + 2  # Two of the four had come.


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(" "), "'prompt' has no answer: the endpoint gave no text (stop)"),
        (Answer(status=400), "'prompt' has no answer: the endpoint refuses it (HTTP 400)"),
    ],
)
def test_a_prompt_that_gets_no_answer_is_named(answer, problem, tmp_path):
    with FakeEndpoint(lambda number, body: answer) as endpoint, pytest.raises(DataError) as error:
        ask_candidates(prompts({"prompt": "a"}), settings(endpoint.url, tmp_path), 1)
    assert error.value.record == 1
    assert problem in str(error.value)


def test_a_prompt_that_gets_no_answer_is_left_out_where_bad_ones_are_set_aside(tmp_path):
    refuse = lambda number, body: Answer(status=400) if "b" in str(body["messages"]) else Answer("yes")  # noqa: E731
    bad = []
    asked = prompts({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"})
    with FakeEndpoint(refuse) as endpoint:
        one = dataclasses.replace(settings(endpoint.url, tmp_path), concurrency=1)
        found = ask_candidates(asked, one, 4, on_bad=lambda item, error: bad.append((item.number, str(error))))
    assert [record["prompt"] for record in found] == ["a", "c"]
    ((number, said),) = bad
    assert number == 2
    assert "the endpoint refuses it (HTTP 400)" in said


@pytest.mark.parametrize(
    ("width", "scheme", "paper"),
    [
        (400, 1, "rgb(255, 255, 255)"),
        (1280, 0, "rgb(20, 24, 29)"),
        pytest.param(1280, 1, "rgb(255, 255, 255)", marks=pytest.mark.slow),
        pytest.param(400, 0, "rgb(20, 24, 29)", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("judge", JUDGE_NAMES)
def test_a_browser_shows_the_report(tmp_path, judge, width, scheme, paper):
    facts = {"answer": 4, "baseline": "b" * 40, "preferences": [0.1 * n for n in range(8)]}
    texts = [f"{'Sorry, no.' if n % 3 else 'Yes:'} {'a' * n} {n}" for n in range(8)]
    items = [item(n, texts, harmful=n < 4, **facts) for n in range(8)]
    values = [judge_candidates(judge, one) for one in items]
    rewards = [np.random.default_rng(n).normal(size=8) for n in range(8)]
    figures = best_of_n_figures(items, rewards, values, judge, BOOTSTRAP)
    page = render_best_of_n({**figures, "title": "Best of N by crome", "facts": {"chat template": "{% for %}" * 60}})
    assert look(page, tmp_path, width, scheme) == (page.count("<section"), paper, [])
