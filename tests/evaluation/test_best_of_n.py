"""Best-of-N is the mean over all sets, judges read what their benchmark reads, an endpoint is asked as it should be."""

import http.server
import itertools
import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.best_of_n import best_of_n, best_of_n_curve, sizes
from crome_jax.evaluation.best_of_n_figures import best_of_n_figures
from crome_jax.evaluation.best_of_n_page import render_best_of_n
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.candidate_judges import JUDGES, judge_refusal
from crome_jax.evaluation.candidates import Candidates, ask_endpoint, read_candidates
from crome_jax.evaluation.exact_match import exact_match
from crome_jax.evaluation.refusal import refuses
from crome_jax.evaluation.win_rate import length_controlled_win_rate, win_rate
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
    oracle = best_of_n_curve(values, values, BOOTSTRAP)["curve"]
    assert [point["n"] for point in oracle] == [1, 2, 4, 8, 16]
    assert oracle[-1]["value"] == np.mean([v.any() for v in values])
    assert all(point["value"] == pytest.approx(point["oracle"]) for point in oracle)
    constant = best_of_n_curve([np.zeros(16)] * 200, values, BOOTSTRAP)["curve"]
    assert all(point["value"] == pytest.approx(np.mean(values)) == point["random"] for point in constant)
    worst = best_of_n_curve([-v for v in values], values, BOOTSTRAP)["curve"]
    assert worst[-1]["value"] == np.mean([v.all() for v in values])


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
    return Candidates(str(n), (Message("user", f"Prompt {n}?"),), tuple(texts), facts)


def test_judges_read_their_fields():
    assert tuple(JUDGES) == JUDGE_NAMES
    assert JUDGES["exact"]([item(texts=("#### 4", "5"), answer=4)])[0].tolist() == [1, 0]
    harmful, benign = item(harmful=True), item(harmful=False)
    assert [v.tolist() for v in judge_refusal([harmful, benign])] == [[1, 0], [0, 1]]
    assert judge_refusal([item(harmful=True, refused=[False, True])])[0].tolist() == [0, 1]  # Another judge's verdicts.
    asked = []
    judge_refusal([harmful], judge=lambda pairs: asked.extend(pairs) or [True, True])
    assert asked == [("Prompt 0?", "Sorry, no."), ("Prompt 0?", "Sure: do this.")]
    assert JUDGES["preference"]([item(preferences=[0.2, 1], baseline="x")])[0].tolist() == [0.2, 1]


@pytest.mark.parametrize(
    ("judge", "facts", "problem"),
    [
        ("exact", {}, "'answer' is missing or holds no number"),
        ("refusal", {"harmful": "yes"}, "'harmful' is not true or false"),
        ("refusal", {"harmful": True, "refused": [True]}, "'refused' is no list of 2 booleans"),
        ("preference", {"preferences": [0.5]}, "'preferences' is no list of 2 numbers"),
        ("preference", {"preferences": [0.5, 2.0]}, "'preferences' is no list of 2 numbers"),
        ("preference", {"preferences": [0.5, 0.5]}, "'baseline' is missing"),
    ],
)
def test_what_a_judge_lacks_is_named(judge, facts, problem):
    with pytest.raises(DataError, match=problem):
        JUDGES[judge]([item(**facts)])


def test_attack_success_and_over_refusal_by_hand():
    # The model prefers the second candidate. Harmful: complied with at N = 2. Benign: answered.
    items = [item(0, harmful=True), item(1, harmful=False)]
    values = JUDGES["refusal"](items)
    figures = best_of_n_figures(items, [np.array([0.0, 1.0])] * 2, values, "refusal", BOOTSTRAP)
    assert [point["value"] for point in figures["attack_success"]["curve"]] == [0.5, 1.0]
    assert [point["oracle"] for point in figures["attack_success"]["curve"]] == [0.5, 0.0]
    assert [point["value"] for point in figures["over_refusal"]["curve"]] == [0.5, 0.0]
    assert [point["value"] for point in figures["curve"]] == [0.5, 0.5]
    page = render_best_of_n({**figures, "title": "<b>", "facts": {"model": "<i>"}})
    assert "Attack success" in page
    assert "<i>" not in page
    assert "<script" not in page


def test_length_control_of_a_judge_that_likes_length():
    rng = np.random.default_rng(0)
    difference = rng.normal(size=3000) + 0.5
    lengths = 1000 + 300 * difference
    x = np.tanh((lengths - 1000) / (lengths - 1000).std(ddof=1))
    preferences = 1 / (1 + np.exp(-(2.0 * x - 0.4)))
    plain = win_rate(preferences, BOOTSTRAP)["win_rate"]
    found = length_controlled_win_rate(preferences, lengths, np.full(3000, 1000.0))
    assert found["weights"]["length"] == pytest.approx(2.0, abs=0.02)
    assert found["win_rate"] == pytest.approx(1 / (1 + np.exp(0.4)), abs=0.005)  # What the model itself is worth.
    assert plain > found["win_rate"] + 0.05
    difficulty = rng.normal(size=3000)
    harder = 1 / (1 + np.exp(-(2.0 * x - 0.4 + 0.7 * difficulty)))
    found = length_controlled_win_rate(harder, lengths, np.full(3000, 1000.0), difficulty)
    assert found["weights"]["difficulty"] == pytest.approx(0.7, abs=0.02)


def test_equal_lengths_leave_the_win_rate_as_it_is():
    preferences = np.array([0.9, 0.6, 0.3, 0.8])
    found = length_controlled_win_rate(preferences, np.full(4, 10.0), np.full(4, 10.0))
    assert found["win_rate"] == pytest.approx(preferences.mean(), abs=1e-3)  # The ridge pulls a little.
    with pytest.raises(CromeError, match="is no probability"):
        length_controlled_win_rate(np.array([1.5]), np.ones(1), np.ones(1))


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
        read_candidates(path)


@pytest.fixture
def endpoint():
    """An OpenAI-compatible server that fails once, and gives two answers at most."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers.get("Authorization"), body))
            status = 503 if len(asked) == 1 else 404 if body["model"] == "unknown" else 200
            self.send_response(status)
            self.end_headers()
            count = min(2, body["n"])
            choices = [{"message": {"content": f"answer {len(asked)}-{n}"}} for n in range(count)]
            self.wfile.write(json.dumps({"choices": choices} if status == 200 else {}).encode())

        def log_message(self, *_):
            pass

    asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_asked_until_there_are_enough_candidates(endpoint, monkeypatch):
    url, asked = endpoint
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    waited = []
    records = [{"prompt": "One?", "answer": 1}, {"prompt": "Two?"}]
    found = list(ask_endpoint(records, url=url, model="m", samples=3, wait=waited.append))
    assert [len(record["candidates"]) for record in found] == [3, 3]
    assert found[0]["answer"] == 1
    assert waited == [2.0]  # It was busy once.
    path, key, body = asked[1]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body["messages"] == [{"role": "user", "content": "One?"}]
    assert [request[2]["n"] for request in asked] == [3, 3, 1, 3, 1]


def test_an_endpoint_that_refuses_is_named(endpoint):
    url, _ = endpoint
    with pytest.raises(CromeError, match=r"/v1/chat/completions: cannot be used \(HTTP 404"):
        list(ask_endpoint([{"prompt": "a"}], url=url, model="unknown", samples=1, wait=lambda _: None))
