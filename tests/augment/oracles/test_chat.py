"""The chat oracle against an endpoint that misbehaves: nothing lost, nothing doubled, every failure counted."""

import collections
import contextlib
import dataclasses
import json
import random
import time

import pytest
from asking import GROUPS, KEY, RECIPE, ask, augment, intervention, settings
from fake_endpoint import Answer, FakeEndpoint

from crome_jax.augment import augment_groups
from crome_jax.augment.oracles.base import Declined, Question, Rewrite
from crome_jax.augment.oracles.chat.client import LONGEST_RETRY_AFTER_S, retry_after
from crome_jax.augment.oracles.chat.estimate import Estimate
from crome_jax.augment.oracles.chat.limits import Limits, Rate
from crome_jax.augment.oracles.chat.oracle import ChatOracle
from crome_jax.augment.oracles.chat.prompts import Prompts
from crome_jax.augment.oracles.chat.replay import Replay
from crome_jax.augment.oracles.chat.settings import ChatSettings, estimate_prompt
from crome_jax.augment.recipe import Recipe
from crome_jax.errors import CromeError
from crome_jax.groups import Comparison, Kind, Message, build_group


def misbehave(share, seed=0):
    """Return what a bad day of an endpoint looks like: so many requests fail, each in one of many ways."""
    rng = random.Random(seed)
    fates = (
        lambda: Answer(status=429, headers={"Retry-After": "0.02"}),
        lambda: Answer(status=429, headers={"retry-after-ms": "15"}),
        lambda: Answer(status=500),
        lambda: Answer(status=503, headers={"Retry-After": "soon"}),
        lambda: Answer(status=502, body=b"<html>bad gateway</html>", headers={"Content-Type": "text/html"}),
        lambda: Answer(fate="reset"),
        lambda: Answer(fate="hang"),
        lambda: Answer(fate="close"),
        lambda: Answer(fate="garbage"),
        lambda: Answer(headers={"Content-Encoding": "gzip"}),
        lambda: Answer(body=b'{"choices": [{"message": {"content": "cut'),
        lambda: Answer(body=b""),
        lambda: Answer(body=b'{"choices": []}'),
    )
    return lambda number, body: rng.choice(fates)() if rng.random() < share else None


def test_with_three_in_ten_requests_failing_the_result_is_the_same_and_the_account_complete(tmp_path):
    with FakeEndpoint() as good:
        expected, account, oracle = augment(settings(good, tmp_path / "good"))
        assert oracle.traffic.sent == oracle.traffic.answered == len(good.requests)
        assert not oracle.traffic.failed
    with FakeEndpoint(misbehave(0.3)) as bad:
        lines, again, oracle = augment(settings(bad, tmp_path / "bad", timeout_s=1.0))
    assert lines == expected
    assert again == account
    traffic = oracle.traffic
    # Every attempt is accounted for; every reply was asked for once, and paid for once.
    assert traffic.sent == traffic.answered + traffic.failed.total()
    assert len(bad.requests) <= traffic.sent  # On a busy machine one may time out before it is out.
    replies = [json.dumps(body) for body in good.requests]
    assert len(set(replies)) == len(replies) == traffic.answered
    assert 0.15 < traffic.failed.total() / traffic.sent < 0.45
    reasons = {"HTTP 429", "HTTP 500", "HTTP 502", "HTTP 503", "time-out", "connection broke"}
    assert set(traffic.failed) == reasons | {"reply is no chat completion"}
    # Of what got lost the prompt is counted, too.
    assert oracle.budget.prompt_tokens > 100 * traffic.answered
    kinds = collections.Counter(c["kind"] for line in lines for c in json.loads(line)["comparisons"] if "kind" in c)
    assert kinds["causal"] > 20
    assert kinds["neutral"] > 20


MALFORMED = {
    "not json": ("Sure, here it is: a better answer!", "reply is not JSON"),
    "cut json": ('{"declined": false, "text": "This is', "reply is not JSON"),
    "empty": ("", "reply is empty"),
    "other fields": ('{"answer": "This is it."}', "reply is not of the asked form"),
    "refusal": ("I'm sorry, but I can't help with that.", "reply is not JSON"),
}


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_reply_is_asked_for_once_more_and_then_declined_and_counted(name, seed, tmp_path):
    content, reason = MALFORMED[name]
    with FakeEndpoint(lambda number, body: Answer(content)) as endpoint:
        (reply,), oracle = ask(endpoint, [intervention()], tmp_path, seed=seed)
        assert reply == Declined(reason)
        assert oracle.traffic.malformed == {reason: 2}
        assert [body.get("seed") for body in endpoint.requests] == ([0, 1] if seed == 0 else [None, None])
        # It was paid for: it is not asked for again by the next run either.
        (again,), _ = ask(endpoint, [intervention()], tmp_path, seed=seed)
        assert again == reply
        assert len(endpoint.requests) == 2
        with ChatOracle(settings(endpoint, tmp_path, seed=seed), Replay) as replayed:
            assert replayed.submit(intervention()).result() == reply
            assert replayed.traffic.cached == 2
    with FakeEndpoint(lambda number, body: Answer(content) if number == 0 else None) as endpoint:
        (reply,), _ = ask(endpoint, [intervention()], tmp_path / "other", seed=seed)
        assert isinstance(reply, Rewrite)


def test_a_reply_cut_short_by_its_limit_or_refused_by_the_endpoint_is_declined():
    with FakeEndpoint(lambda number, body: Answer(finish="length")) as endpoint:
        assert ask(endpoint, [intervention()])[0] == [Declined("reply is cut short")]
    with FakeEndpoint(lambda number, body: Answer(finish="content_filter")) as endpoint:
        assert ask(endpoint, [intervention()])[0] == [Declined("refused to rewrite")]
        assert len(endpoint.requests) == 1


def test_a_reply_of_five_megabytes_is_not_read_to_its_end_and_not_asked_for_again(tmp_path):
    with FakeEndpoint(lambda number, body: Answer("x" * 5_000_000)) as endpoint:
        for _ in range(2):
            (reply,), _ = ask(endpoint, [intervention()], tmp_path)
            assert reply == Declined("reply is too large")
        assert len(endpoint.requests) == 1


def test_prompts_without_attributes_and_rewrites_in_another_language_are_counted_and_the_run_goes_on():
    german = "Das ist eine ganz andere Antwort, und sie ist in einer anderen Sprache geschrieben als die erste."

    def behave(number, body):
        kind = body["response_format"]["json_schema"]["name"]
        if kind == "rubrics" and "question 3?" in body["messages"][1]["content"]:
            return Answer('{"attributes": []}')
        if kind == "upgrade":
            return Answer(json.dumps({"declined": False, "text": german, "edit": "x"}))
        return None

    with FakeEndpoint(behave) as endpoint:
        lines, account, _ = augment(settings(endpoint), recipe=Recipe(rubrics_per_prompt=2, neutrals_per_group=0))
    assert len(lines) == len(GROUPS)
    assert account.dropped["rubrics", "every attribute", "reply names no usable attribute"] == 1
    declined = [(key[2], count) for key, count in account.dropped.items() if key[0] == "upgrade"]
    assert {reason for reason, _ in declined} == {"another language"}
    assert sum(count for _, count in declined) == 2 * (len(GROUPS) - 1)
    assert account.short["upgrade"] == 2 * len(GROUPS)
    third = json.loads(lines[3])
    assert {c.get("kind", "human") for c in third["comparisons"]} == {"human", "causal", "neutral"}  # Its alignment.


def test_a_request_the_endpoint_refuses_is_declined_and_a_configuration_it_refuses_stops_the_run():
    def behave(number, body):
        return Answer(status=400) if "bad" in body["messages"][1]["content"] else None

    with FakeEndpoint(behave) as endpoint:
        requests = [intervention("This is fine."), *(intervention(f"This is bad {k}.") for k in range(12))]
        replies, _ = ask(endpoint, requests, concurrency=1)
        assert isinstance(replies[0], Rewrite)
        assert set(replies[1:]) == {Declined("the endpoint refuses it (HTTP 400)")}
        assert len(endpoint.requests) == 13
        with pytest.raises(CromeError, match=r"HTTP 400: .*check ChatSettings"):
            ask(endpoint, requests[1:])


def test_many_requests_refused_in_a_row_stop_the_run_although_others_were_answered_before(tmp_path):
    requests = [intervention(f"Text {k}.") for k in range(60)]
    with FakeEndpoint(lambda number, body: Answer(status=400) if number >= 20 else None) as endpoint:
        with pytest.raises(CromeError, match=r"so were the 32 requests before, .* ChatSettings\.unanswered"):
            ask(endpoint, requests, tmp_path, concurrency=1)
        assert len(endpoint.requests) == 20 + 33
        with pytest.raises(CromeError, match="so were the 32 requests before"):  # Replies that are kept are no sign.
            ask(endpoint, requests, tmp_path, concurrency=1)
        replies, _ = ask(endpoint, requests, tmp_path, concurrency=1, unanswered=40)
        assert sum(isinstance(reply, Rewrite) for reply in replies) == 20


def test_a_run_all_of_whose_requests_are_refused_fails_however_few_they_are(tmp_path):
    def behave(number, body):
        return Answer(status=422) if "bad" in body["messages"][1]["content"] else None

    bad = intervention("This is bad.")
    with FakeEndpoint(behave) as endpoint:
        with pytest.raises(CromeError, match=r"HTTP 422: .* all of the 1 requests were refused"):
            ask(endpoint, [bad, bad], tmp_path)
        (declined,), _ = ask(endpoint, [bad], tmp_path, unanswered=1)
        assert declined == Declined("the endpoint refuses it (HTTP 422)")
        ask(endpoint, [intervention(), bad], tmp_path)
        (_, again), _ = ask(endpoint, [intervention(), bad], tmp_path)  # The first is kept.
        assert again == declined


def test_a_request_that_fails_alone_may_be_allowed_for():
    """It may be the last one, and the endpoint well: no other reply can show it."""
    with FakeEndpoint(lambda number, body: Answer(status=500)) as endpoint:
        (reply,), _ = ask(endpoint, [intervention()], attempts=2, unanswered=1)
        assert reply == Declined("failed 2 times, at last with HTTP 500")
        with pytest.raises(CromeError, match=r"failed 2 times.* allow for it by ChatSettings\.unanswered=1"):
            ask(endpoint, [intervention("This."), intervention("That.")], attempts=2, unanswered=1)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "check the key in MY_KEY"), (403, "check the key"), (404, "check ChatSettings")]
)
def test_what_no_further_attempt_can_mend_stops_the_run_at_once(status, said, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with FakeEndpoint(lambda number, body: Answer(status=status)) as endpoint:
        with pytest.raises(CromeError, match=said):
            ask(endpoint, [intervention(f"Text {k}.") for k in range(200)], api_key_env="MY_KEY", concurrency=4)
        assert len(endpoint.requests) <= 4


def test_an_endpoint_that_stays_down_stops_the_run_and_the_next_run_goes_on_from_there(tmp_path):
    with FakeEndpoint() as endpoint:
        expected, _, _ = augment(settings(endpoint))
        whole = len(endpoint.requests)
    with FakeEndpoint(lambda number, body: Answer(status=503) if number >= 40 else None) as endpoint:
        with pytest.raises(CromeError, match="failed 3 times, at last with HTTP 503; what came is kept"):
            augment(settings(endpoint, tmp_path, attempts=3))
        assert endpoint.answered == 40
    with FakeEndpoint() as endpoint:
        lines, _, oracle = augment(settings(endpoint, tmp_path))
        assert lines == expected
        assert len(endpoint.requests) == whole - 40
        assert oracle.traffic.cached == 40


def test_an_endpoint_that_dies_while_many_requests_wait_for_their_turn_loses_none_of_them(tmp_path):
    """As with crome.gin: rewrites wait in line while questions are answered, and the endpoint is gone for all of them.

    What was under way when it died comes in after the first of the others has failed.
    """

    def behave(number, body):
        if number < 150 - 64:
            return None
        return Answer(latency_s=0.3) if number < 150 else Answer(status=503)

    groups = [
        build_group(
            id=f"g{k}",
            prompt=f"How many rivers are there in country {k}?",
            responses=[f"There are {k} of them here.", f"There are none at all, {k}."],
            comparisons=[Comparison(0, 1)],
        )
        for k in range(45)
    ]
    recipe = Recipe(
        rubrics_per_prompt=5, degrade_per_pair=5, upgrade_per_pair=5, align_per_pair=0, neutrals_per_group=0
    )
    with FakeEndpoint(behave) as endpoint:
        chosen = settings(endpoint, tmp_path, attempts=3, concurrency=64)
        with pytest.raises(CromeError, match="failed 3 times, at last with HTTP 503"):
            augment(chosen, groups, recipe)
        assert endpoint.answered == 150


def test_further_fields_are_sent_and_a_temperature_of_none_is_not(tmp_path):
    with FakeEndpoint() as endpoint:
        extra = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
        ask(endpoint, [intervention()], tmp_path, extra=extra, temperature=None)
        (body,) = endpoint.requests
        assert {name: body[name] for name in extra} == extra
        assert "temperature" not in body
        assert "temperature" in ChatSettings("m").body(Prompts("crome-1").render(intervention()), 0)
        # A reply to other fields is another reply.
        ask(endpoint, [intervention()], tmp_path, temperature=None)
        ask(endpoint, [intervention()], tmp_path, extra=extra, temperature=None)
        assert len(endpoint.requests) == 2


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ({"model": "other"}, "holds model, which no further field is"),
        ({"stream": True}, "holds stream"),
        ({1: 2}, "holds 1"),
        ({"top_p": float("nan")}, "is no JSON object"),
        ({"top_p": {1}}, "is no JSON object"),
        ([1], "is no JSON object"),
    ],
)
def test_further_fields_are_fields_that_are_not_there(extra, problem):
    with pytest.raises(CromeError, match=f"ChatSettings.extra {problem}"):
        ChatSettings("m", extra=extra)


def test_a_moment_to_wait_until_is_waited_for_and_what_is_none_is_passed_over(monkeypatch):
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    for said, seconds in (
        ({"retry-after": "120"}, 120),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:30 GMT"}, 90),
        ({"retry-after": "Fri, 15 Jan 2027 07:59:00 GMT"}, 0),  # It is over.
        ({"retry-after": "Mon, 15 Mar 2027 08:00:00 GMT"}, LONGEST_RETRY_AFTER_S),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "nan"}, 0),
        ({}, 0),
    ):
        assert retry_after(said) == seconds


def test_waits_double_up_to_the_longest_and_no_two_are_alike(monkeypatch):
    waits = []

    async def asleep(seconds, stopping):
        waits.append(seconds)

    monkeypatch.setattr("crome_jax.augment.oracles.chat.client.asleep", asleep)
    with FakeEndpoint(lambda number, body: Answer(status=503) if number < 9 else None) as endpoint:
        ask(endpoint, [intervention()], backoff_s=1.0, longest_wait_s=60.0)
    most = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(waits) == 9
    assert all(0.5 * longest <= wait <= longest for wait, longest in zip(waits, most, strict=True))
    assert len({wait / longest for wait, longest in zip(waits, most, strict=True)}) == 9


def test_a_pause_that_one_request_is_told_holds_for_all_others():
    def behave(number, body):
        return Answer(status=429, headers={"Retry-After": "0.5"}) if number == 0 else None

    with FakeEndpoint(behave) as endpoint:
        started = time.monotonic()
        with ChatOracle(settings(endpoint, concurrency=1)) as oracle:
            for future in [oracle.submit(intervention(f"Text {k} is here.")) for k in range(4)]:
                future.result()
        # One at a time: the second would have been sent at once, had it not been for the pause.
        assert time.monotonic() - started >= 0.5
        assert [endpoint.requests[0] == body for body in endpoint.requests].count(True) == 2
        moments = endpoint.moments
        assert moments[1] - moments[0] >= 0.5


def test_an_hour_is_waited_where_the_endpoint_says_so_and_nobody_else_asks_meanwhile(monkeypatch):
    waits = []
    monkeypatch.setattr(Limits, "pause", lambda self, seconds: waits.append(seconds))
    with FakeEndpoint(
        lambda number, body: Answer(status=429, headers={"Retry-After": "0.3"}) if number == 0 else None
    ) as endpoint:
        started = time.monotonic()
        ask(endpoint, [intervention()])
        assert time.monotonic() - started >= 0.3
    assert waits == [0.3]


def test_a_budget_of_tokens_stops_the_run_before_it_is_passed_and_a_higher_one_goes_on(tmp_path):
    recipe = Recipe(rubrics_per_prompt=3)
    with FakeEndpoint() as endpoint:
        expected, _, oracle = augment(settings(endpoint), recipe=recipe)
        total = oracle.budget.prompt_tokens + oracle.budget.reply_tokens
    # The fake endpoint counts 150 tokens a request; the estimate of what one may take is 100 for its reply and more.
    budget = total // 2
    with FakeEndpoint() as endpoint:
        short = settings(endpoint, tmp_path, token_budget=budget, max_reply_tokens=100)
        with pytest.raises(CromeError, match=r"the budget is spent: .* raise ChatSettings.token_budget"):
            augment(short, recipe=recipe)
        first = len(endpoint.requests)
        assert first == endpoint.answered
        assert budget - 1500 < 150 * first <= budget
        ample = dataclasses.replace(short, token_budget=None)
        lines, _, oracle = augment(ample, recipe=recipe)
        assert lines == expected
        assert oracle.traffic.cached >= first
        assert len({json.dumps(body) for body in endpoint.requests}) == len(endpoint.requests)


def test_a_limit_on_the_rate_costs_no_request_however_often_it_is_met():
    """More often than a request may fail, and while others are answered."""
    turned_away = collections.Counter()

    def behave(number, body):
        text = body["messages"][1]["content"]
        turned_away[text] += "unlucky" in text
        return Answer(status=429) if 0 < turned_away[text] <= 5 else None

    with FakeEndpoint(behave) as endpoint:
        requests = [intervention(f"Text {k} is {'unlucky' if k % 10 == 0 else 'here'}.") for k in range(80)]
        replies, oracle = ask(endpoint, requests, attempts=2, concurrency=2)
        assert all(isinstance(reply, Rewrite) for reply in replies)
        assert oracle.traffic.failed == {"HTTP 429": 40}


def test_where_nothing_but_429_comes_for_long_the_run_stops_and_says_what_the_endpoint_said(monkeypatch, tmp_path):
    monkeypatch.setattr("crome_jax.augment.oracles.chat.client.LONGEST_LIMITED_S", 0.2)
    body = json.dumps({"error": {"message": "Quota exceeded for requests per day"}}).encode()
    with FakeEndpoint(lambda number, _: Answer(status=429, body=body) if number >= 5 else None) as endpoint:
        with pytest.raises(CromeError, match=r"no request was answered, at last with HTTP 429: .*per day.* is kept"):
            ask(endpoint, [intervention(f"Text {k}.") for k in range(20)], tmp_path, attempts=2)
        assert endpoint.answered == 5


def test_a_quota_that_is_used_up_stops_the_run_at_once():
    said = {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": "insufficient_quota"}
    body = json.dumps({"error": said}).encode()
    with FakeEndpoint(lambda number, _: Answer(status=429, body=body)) as endpoint:
        with pytest.raises(CromeError, match=r"exceeded your current quota.*raise the quota of the account"):
            ask(endpoint, [intervention(f"Text {k}.") for k in range(20)], concurrency=2)
        assert len(endpoint.requests) <= 2


def test_a_request_that_always_fails_while_others_are_answered_is_declined_and_the_run_goes_on():
    def behave(number, body):
        return Answer(status=500) if "poison" in body["messages"][1]["content"] else None

    with FakeEndpoint(behave) as endpoint:
        requests = [intervention(f"Text {k} is {'poison' if k == 5 else 'here'}.") for k in range(80)]
        replies, oracle = ask(endpoint, requests, attempts=3, concurrency=4)
        assert replies[5] == Declined("failed 3 times, at last with HTTP 500")
        assert all(isinstance(reply, Rewrite) for k, reply in enumerate(replies) if k != 5)
        assert oracle.traffic.failed == {"HTTP 500": 3}


@pytest.mark.parametrize("how", [{}, {"requests_per_minute": 30.0}], ids=["retry-after", "limit"])
def test_a_run_that_stops_does_not_wait_for_those_that_sleep(how):
    with FakeEndpoint(
        lambda number, body: Answer(status=429, headers={"Retry-After": "300"}) if not how else Answer(latency_s=0.1)
    ) as endpoint:
        oracle = ChatOracle(settings(endpoint, **how))
        futures = [oracle.submit(intervention(f"Text {k} is here.")) for k in range(20)]
        while not endpoint.requests:
            time.sleep(0.01)
        time.sleep(0.3)
        started = time.monotonic()
        oracle.close()
        assert time.monotonic() - started < 1
        assert any(isinstance(future.exception(), CromeError) for future in futures)


USAGES = {
    "as said": ({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}, 100, 50),
    "thinking in the total": ({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 900}, 100, 800),
    "zeros": ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None, 504),
    "none": (None, None, 504),
}


@pytest.mark.parametrize("name", USAGES)
def test_tokens_are_counted_whatever_the_endpoint_says_of_them(name):
    usage, prompt, reply = USAGES[name]
    choice = {"message": {"content": json.dumps({"declined": False, "text": "x" * 1957, "edit": ""})}}
    body = json.dumps({"choices": [choice], "usage": usage}).encode()
    with FakeEndpoint(lambda number, _: Answer(body=body)) as endpoint:
        _, oracle = ask(endpoint, [intervention()])
        estimated = estimate_prompt(endpoint.requests[0])
    assert oracle.budget.prompt_tokens == (estimated if prompt is None else prompt)
    assert oracle.budget.reply_tokens == reply


@pytest.mark.parametrize(("fate", "counted"), [("hang", 1), ("reset", 1), ("500", 0)])
def test_the_prompt_of_an_attempt_that_got_lost_is_counted(fate, counted):
    lost = Answer(status=500) if fate == "500" else Answer(fate=fate)
    with FakeEndpoint(lambda number, body: lost if number == 0 else None) as endpoint:
        _, oracle = ask(endpoint, [intervention()], timeout_s=1.0)
        assert oracle.budget.prompt_tokens == 100 + counted * estimate_prompt(endpoint.requests[0])


def test_a_budget_of_money_wants_prices_and_counts_them():
    with FakeEndpoint() as endpoint:
        with pytest.raises(CromeError, match="no price"):
            settings(endpoint, money_budget=1.0)
        with pytest.raises(CromeError, match="one price is missing; give both prompt_price and reply_price"):
            settings(endpoint, money_budget=1.0, prompt_price=1.0)
        priced = {"prompt_price": 2.0, "reply_price": 10.0}
        # 100 and 50 tokens a request are $0.0007.
        with pytest.raises(CromeError, match="budget is spent"):
            ask(
                endpoint,
                [intervention(f"Text {k} is here.") for k in range(100)],
                money_budget=0.02,
                max_reply_tokens=60,
                **priced,
            )
        assert 10 <= len(endpoint.requests) <= 0.02 / 0.0007


def uses(rate, amount, count):
    """Return when so many uses of so much come, each as early as it may."""
    free, now, starts = 0.0, 0.0, []
    for _ in range(count):
        now = max(now, rate.start(free, amount))
        free = rate.used(free, now, amount)
        starts.append(now)
    return starts


def test_no_minute_holds_more_than_its_limit():
    starts = uses(Rate(600), 1, 3000)
    for k in range(0, 2000, 7):
        assert sum(starts[k] <= start < starts[k] + 60 for start in starts) <= 600
    # Over the long run nine tenths and more of what is allowed are used.
    assert 2999 / (starts[-1] - starts[0]) > 0.9 * 10
    # What is more than a second's worth waits until all before it is worked off.
    starts = uses(Rate(6000), 900, 100)
    for start in starts:
        assert sum(900 for at in starts if start <= at < start + 60) <= 6000 + 900


def test_limits_hold_over_the_wire_and_concurrency_too():
    with FakeEndpoint(lambda number, body: Answer(latency_s=0.05)) as endpoint:
        started = time.monotonic()
        ask(endpoint, [intervention(f"Text {k} is here.") for k in range(30)], concurrency=5)
        assert endpoint.most_under_way == 5
        assert time.monotonic() - started >= 6 * 0.05
    with FakeEndpoint() as endpoint:
        started = time.monotonic()
        # 20 a second, of which one second's worth may come at once.
        ask(endpoint, [intervention(f"Text {k} is here.") for k in range(40)], requests_per_minute=1200)
        assert time.monotonic() - started >= 0.9


def test_a_dry_run_of_any_length_remembers_so_many_requests(monkeypatch):
    monkeypatch.setattr("crome_jax.augment.oracles.chat.estimate._REMEMBERED", 3)
    estimate = Estimate(ChatSettings("m", cache=None))
    for text in ("one", "two", "two", "three", "four", "five", "five", "one"):
        estimate.submit(intervention(text))
    assert estimate.requests == 6  # The first was forgotten by the time that it came again.
    assert len(estimate._seen) == 3


def test_equal_requests_under_way_are_sent_once():
    with FakeEndpoint(lambda number, body: Answer(latency_s=0.1)) as endpoint:
        replies, oracle = ask(endpoint, [intervention() for _ in range(20)])
        assert len(endpoint.requests) == 1
        assert len({reply.text for reply in replies}) == 1
        assert oracle.traffic.cached == 19


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"temperature": 0.1}, {"seed": 7}, {"max_reply_tokens": 9}, {"structured": "none"}]
)
def test_a_reply_is_found_by_all_that_was_sent(change, tmp_path):
    with FakeEndpoint(lambda number, body: Answer(json.dumps({"declined": True, "text": "", "edit": ""}))) as endpoint:
        base = settings(endpoint, tmp_path)
        for chosen in (base, base, dataclasses.replace(base, **change), dataclasses.replace(base, concurrency=1)):
            with ChatOracle(chosen) as oracle:
                oracle.submit(intervention()).result()
        assert len(endpoint.requests) == 2


def test_a_cache_that_cannot_be_written_stops_the_run(tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    with FakeEndpoint() as endpoint, pytest.raises(CromeError, match="cannot be written"):
        ask(endpoint, [intervention()], tmp_path)


def test_recorded_replies_give_the_same_groups_without_any_endpoint(tmp_path):
    with FakeEndpoint() as endpoint:
        recorded = settings(endpoint, tmp_path)
        expected, account, _ = augment(recorded)
    away = dataclasses.replace(recorded, base_url="http://127.0.0.1:9/v1")
    lines, again, oracle = augment(away, completer=Replay)
    assert (lines, again) == (expected, account)
    assert oracle.traffic.sent == 0
    other = dataclasses.replace(away, model="never asked", unanswered=10**6)
    with pytest.raises(CromeError, match=r"42 of 42 replies are not recorded there \(never asked, .* recorded$"):
        augment(other, completer=Replay)
    with pytest.raises(CromeError, match="no such folder"):
        augment(dataclasses.replace(away, cache=str(tmp_path / "elsewhere")), completer=Replay)


def test_a_dry_run_counts_what_a_run_then_sends(tmp_path):
    # A judge that objects saves requests that the estimate counts; without one the counts agree to the request.
    recipe = Recipe(rubrics_per_prompt=3, chain_steps=3, joint_per_pair=1, rewritten_twice_per_pair=1)
    with FakeEndpoint() as endpoint:
        chosen = settings(endpoint, tmp_path, prompt_price=1.0, reply_price=4.0)
        before = Estimate(chosen)
        list(augment_groups(GROUPS, oracle=before, recipe=recipe))
        assert endpoint.requests == []
        assert before.kept == 0
        _, _, oracle = augment(chosen, recipe=recipe)
        assert before.requests == oracle.traffic.sent == len(endpoint.requests)
        characters = sum(len(m["content"]) for body in endpoint.requests for m in body["messages"])
        assert before.prompt_tokens == pytest.approx(characters / 4, rel=0.1)
        assert before.dollars == pytest.approx((before.prompt_tokens + 4 * before.reply_tokens) / 1e6)
        after = Estimate(chosen)
        list(augment_groups(GROUPS, oracle=after, recipe=recipe))
        assert after.kept == after.requests == before.requests
        assert after.prompt_tokens == after.reply_tokens == 0
    assert "requests to model-x" in str(before)
    assert f"${before.dollars:,.2f} at $1 and $4 for a million" in str(before)
    unpriced = Estimate(dataclasses.replace(chosen, prompt_price=None, reply_price=None))
    assert unpriced.dollars is None
    assert "what they cost is not known: give ChatSettings.prompt_price" in str(unpriced)


def test_a_dry_run_of_a_run_that_was_stopped_counts_what_is_still_to_be_sent(tmp_path):
    recipe = Recipe(rubrics_per_prompt=3, chain_steps=2)
    fates = {3: Answer("no"), 70: Answer(status=401)}
    with FakeEndpoint(lambda number, body: fates.get(number)) as endpoint:
        chosen = settings(endpoint, tmp_path, concurrency=2)
        with pytest.raises(CromeError, match="HTTP 401"):
            augment(chosen, recipe=recipe)
        before = endpoint.answered
        left = Estimate(chosen)
        list(augment_groups(GROUPS, oracle=left, recipe=recipe))
        augment(chosen, recipe=recipe)
        assert left.kept == before  # The malformed reply and the one after it among them.
        assert left.requests - left.kept == endpoint.answered - before
    assert f"{left.requests - left.kept:,} to be sent" in str(left)


def test_a_replay_lacks_no_reply_unless_that_is_allowed(tmp_path):
    with FakeEndpoint() as endpoint:
        recorded = settings(endpoint, tmp_path)
        ask(endpoint, [intervention("This was asked.")], tmp_path)
    asked = [intervention("This was asked."), intervention("This was not."), intervention("Nor was this.")]
    for allowed in (0, 1, 2):
        chosen = dataclasses.replace(recorded, unanswered=allowed)
        said = pytest.raises(CromeError, match=r"2 of 3 replies are not recorded there .*ChatSettings\.unanswered=2")
        with contextlib.nullcontext() if allowed == 2 else said, ChatOracle(chosen, Replay) as oracle:
            replies = [oracle.submit(request).result() for request in asked]
        assert replies[1:] == [Declined("no recorded reply")] * 2


@pytest.mark.parametrize("judged_before", [True, False])
def test_a_dry_run_counts_the_judgements_of_rewrites_that_are_there_already(judged_before, tmp_path):
    """Of a run with a judge that was stopped, and of a finished one without, to which a judge is added."""
    few = GROUPS[:6]
    judging = Recipe(rubrics_per_prompt=2, chain_steps=2, paraphrase_per_pair=1, judge=True)
    with FakeEndpoint(lambda number, body: Answer(status=401) if number == 70 and judged_before else None) as endpoint:
        chosen = settings(endpoint, tmp_path, concurrency=2)
        recipe = judging if judged_before else dataclasses.replace(judging, judge=False)
        with pytest.raises(CromeError) if judged_before else contextlib.nullcontext():
            augment(chosen, few, recipe)
        before = endpoint.answered
        left = Estimate(chosen)
        list(augment_groups(few, oracle=left, recipe=judging))
        augment(chosen, few, judging)
        assert left.kept == before
        assert left.requests - left.kept == endpoint.answered - before > 20


def test_no_question_is_paid_for_once_a_pair_that_its_answer_is_in(tmp_path):
    responses = [f"The answer of rank {k} is this one." for k in range(4)]
    pairs = [Comparison(i, j) for i in range(4) for j in range(i + 1, 4)]
    ranked = build_group(id="g", prompt="How do whales sing?", responses=responses, comparisons=pairs)
    with FakeEndpoint() as endpoint:
        chosen = settings(endpoint, tmp_path)
        estimate = Estimate(chosen)
        recipe = Recipe(rubrics_per_prompt=3, neutrals_per_group=0, align_per_pair=0)
        list(augment_groups([ranked], oracle=estimate, recipe=recipe))
        augment(chosen, [ranked], recipe)
        bodies = []
        for body in endpoint.requests:
            user = body["messages"][1]["content"]
            key = user.partition("\n")[0].split()[-1].rstrip(".")
            bodies.append(json.dumps(body).replace(key, "KEY"))
        assert len(set(bodies)) == len(bodies) > 8
        assert estimate.requests == len(bodies)


@pytest.mark.parametrize(("field", "value"), [("concurrency", 0), ("timeout_s", -1), ("temperature", float("nan"))])
def test_a_setting_out_of_range_is_named(field, value):
    with pytest.raises(CromeError, match=f"ChatSettings.{field}"):
        ChatSettings("m", **{field: value})


def test_a_cache_in_a_bucket_is_refused():
    with pytest.raises(CromeError, match=r"ChatSettings\.cache is gs://bucket/replies, a bucket, .* name a folder"):
        ChatSettings("m", cache="gs://bucket/replies")


def test_answers_that_instruct_the_oracle_pass_through_as_they_are(tmp_path):
    from test_prompts import INJECTIONS

    groups = [
        build_group(
            id=f"g{k}",
            prompt=f"What about {text}?",
            responses=[f"The answer is this. {text}", f"No. {text}"],
            comparisons=[Comparison(0, 1)],
        )
        for k, text in enumerate(INJECTIONS)
    ]

    def obey(number, body):
        """Copy the answer with one word changed, as a model does that is asked to change little."""
        kind = body["response_format"]["json_schema"]["name"]
        if kind not in ("degrade", "upgrade"):
            return None
        user = body["messages"][1]["content"]
        key = user.partition("\n")[0].split()[-1].rstrip(".")
        text = user.partition(f"<<<BEGIN ANSWER {key}>>>\n")[2].partition(f"\n<<<END ANSWER {key}>>>")[0]
        new = f"Perhaps {number} it is so that {text}"
        return Answer(json.dumps({"declined": False, "text": new, "edit": "x"}))

    with FakeEndpoint(obey) as endpoint:
        lines, _, _ = augment(settings(endpoint, tmp_path), groups, Recipe(align_per_pair=0, neutrals_per_group=0))
    for group, line in zip(groups, lines, strict=True):
        out = json.loads(line)
        assert [r["text"] for r in out["responses"][:2]] == [r.text for r in group.responses]
        made = [r for r in out["responses"] if r.get("origin") in ("degraded", "upgraded")]
        assert len(made) == 4
        for response in made:
            assert response["text"].endswith(group.responses[response["parent"]].text.strip())


def test_the_older_interface_is_there_too():
    with FakeEndpoint() as endpoint, ChatOracle(settings(endpoint)) as oracle:
        prompt = (Message("user", "When does the tide turn?"),)
        names = oracle.rubrics(prompt, (), 2)
        assert len(names) == 2
        replies = list(oracle.rewrite([intervention(f"Text {k} is here.") for k in range(5)]))
        assert len({reply.text for reply in replies}) == 5
        assert oracle.submit(Question(prompt, (), 2)).result()[0].name == names[0]


def test_kinds_are_those_of_the_recipe():
    with FakeEndpoint() as endpoint:
        lines, account, _ = augment(settings(endpoint), recipe=dataclasses.replace(RECIPE, judge=False))
    kinds = collections.Counter(c.get("kind", "human") for line in lines for c in json.loads(line)["comparisons"])
    assert kinds == account.comparisons
    assert set(kinds) == {kind.name.lower() for kind in Kind}
