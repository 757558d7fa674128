"""Keys: sent to whom they are for, and written nowhere."""

import json
import logging

import pytest
from asking import KEY, ask, augment, intervention, settings
from fake_endpoint import Answer, FakeEndpoint

from crome_jax.augment.oracles.base import Rewrite
from crome_jax.augment.oracles.chat.database import Database
from crome_jax.augment.oracles.chat.estimate import Estimate
from crome_jax.augment.oracles.chat.oracle import ChatOracle
from crome_jax.augment.oracles.chat.replay import Replay
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.errors import CromeError


def test_the_key_is_in_the_header_and_nowhere_else(tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)

    def behave(number, body):
        if number < 3:
            return Answer(status=500, body=json.dumps({"error": {"message": f"key {KEY} is slow"}}).encode())
        return Answer(status=503) if number == 4 else None

    with FakeEndpoint(behave) as endpoint:
        chosen = settings(endpoint, tmp_path, api_key_env="MY_KEY")
        lines, account, oracle = augment(chosen)
        assert {headers["authorization"] for headers in endpoint.headers} == {f"Bearer {KEY}"}
    quoted = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY[:12]}***6789, or {KEY}."}}).encode()
    with FakeEndpoint(lambda number, body: Answer(status=401, body=quoted)) as endpoint:
        other = settings(endpoint, None, api_key_env="MY_KEY")
        with pytest.raises(CromeError) as stop:
            augment(other)
        assert "[key]" in str(stop.value)
    said = capfd.readouterr()
    written = [path.read_text("latin-1") for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sum(place.count("You make counterfactual answers") for place in written) >= oracle.traffic.answered / 4
    places = [*lines, *written, str(account), repr(chosen), repr(oracle.traffic), str(stop.value), caplog.text, *said]
    places += [str(error) for error in (stop.value.__cause__, stop.value.__context__) if error is not None]
    for place in places:
        assert KEY[:12] not in place
        assert "SECRET" not in place


def test_a_kept_reply_holds_no_address_and_no_key_even_where_the_endpoint_echoes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    echo = json.dumps(
        {"declined": False, "text": f"https://user:{KEY}@host/v1?key={KEY} is what I was sent.", "edit": "x"}
    )
    with FakeEndpoint(lambda number, body: Answer(echo)) as endpoint:
        (reply,), _ = ask(endpoint, [intervention()], tmp_path, api_key_env="MY_KEY")
        address = endpoint.url.partition("//")[2]
    assert reply.text == "https://user:[key]@host/v1?key=[key] is what I was sent."
    [row] = Database(tmp_path / "cache", create=False).rows("select request, reply from replies")
    assert not any(secret in text for text in row for secret in (KEY, address, "127.0.0.1"))


def test_a_key_among_the_further_fields_is_refused_and_not_quoted(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with FakeEndpoint() as endpoint:
        with pytest.raises(CromeError, match=r"ChatSettings.extra holds the key of MY_KEY") as refused:
            ask(endpoint, [intervention()], api_key_env="MY_KEY", extra={"auth": {"bearer": f"Bearer {KEY}"}})
        assert "SECRET" not in str(refused.value)


def test_openais_key_organisation_and_project_go_to_no_other_host_unasked(monkeypatch):
    names = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
    for name in names:
        monkeypatch.setenv(name, f"private-{name}")
    with FakeEndpoint() as endpoint:
        ask(endpoint, [intervention()])
        assert "private" not in str(endpoint.headers)
        # A key that is named for it, and that alone.
        ask(endpoint, [intervention()], api_key_env="OPENAI_API_KEY")
        assert endpoint.headers[-1]["authorization"] == "Bearer private-OPENAI_API_KEY"
        assert str(endpoint.headers[-1]).count("private") == 1


def test_without_a_key_openai_is_not_asked(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(CromeError, match="OPENAI_API_KEY is not set"):
        ChatOracle(ChatSettings("gpt"))


def test_without_the_key_that_is_named_for_it_no_endpoint_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", " \n")
    with FakeEndpoint() as endpoint:
        chosen = settings(endpoint, tmp_path, api_key_env="MY_KEY")
        with pytest.raises(CromeError, match=r"MY_KEY is not set; export the API key in it, or set .* to None"):
            ask(endpoint, [intervention()], tmp_path, api_key_env="MY_KEY")
        assert endpoint.requests == []
        Estimate(chosen).submit(intervention())  # A dry run needs none, nor does what was recorded.
        ask(endpoint, [intervention()], tmp_path)
        with ChatOracle(chosen, Replay) as oracle:
            assert isinstance(oracle.submit(intervention()).result(), Rewrite)


@pytest.mark.parametrize("said", ["API key not valid. Please pass a valid API key.", "API key expired."])
def test_a_key_that_gemini_does_not_take_stops_the_run_although_it_says_so_as_of_a_wrong_request(
    said, tmp_path, monkeypatch
):
    monkeypatch.setenv("MY_KEY", KEY)
    body = json.dumps([{"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}]).encode()
    with FakeEndpoint(lambda number, _: Answer(status=400, body=body) if number >= 10 else None) as endpoint:
        requests = [intervention(f"Text {k}.") for k in range(60)]
        with pytest.raises(CromeError, match=r"HTTP 400: .*API key.*; check the key in MY_KEY"):
            ask(endpoint, requests, tmp_path, api_key_env="MY_KEY", concurrency=2)
        assert len(endpoint.requests) <= 12


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("api_key_env", KEY),
        ("api_key_env", "THE-SECRET"),
        ("api_key_env", ""),
        ("base_url", "https://user:SECRET@host/v1"),
        ("base_url", "https://host/v1?key=SECRET"),
        ("base_url", "https://host/v1#SECRET"),
        ("base_url", "https://host:SECRET/v1"),
        ("base_url", "SECRET"),
    ],
)
def test_a_key_where_none_belongs_is_refused_and_not_quoted(field, value):
    with pytest.raises(CromeError, match=f"ChatSettings.{field}") as refused:
        ChatSettings("m", **{field: value})
    assert "SECRET" not in str(refused.value)


def test_a_key_that_no_header_can_hold_is_refused_and_one_with_a_newline_after_it_is_sent(monkeypatch):
    with FakeEndpoint() as endpoint:
        monkeypatch.setenv("MY_KEY", f"{KEY}\n")
        ask(endpoint, [intervention()], api_key_env="MY_KEY")
        assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
        for key in (f"{KEY}\nX-Other: 1", f"{KEY}é", f"{KEY}\x7f"):
            monkeypatch.setenv("MY_KEY", key)
            with pytest.raises(CromeError, match="MY_KEY holds characters") as refused:
                ask(endpoint, [intervention()], api_key_env="MY_KEY")
            assert "SECRET" not in str(refused.value)
