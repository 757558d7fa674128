"""`crome augment` with a model as oracle: gin files, dry run, budget, baseline, data card."""

import collections
import gzip
import json
import re

import pytest
from fake_endpoint import Answer, FakeEndpoint

from crome_jax.augment.oracles.choice import ORACLES, augmentation
from crome_jax.augment.recipe import Recipe
from crome_jax.cli import main
from crome_jax.configuration import configure
from crome_jax.data.readers import read_groups
from crome_jax.errors import CromeError
from crome_jax.groups import Kind, Origin

PAIRS = [
    {
        "id": f"p{k}",
        "prompt": f"How do {topic} work, and who made them?",
        "chosen": f"The {topic} are made of many parts, and number {k} of them is the best.",
        "rejected": f"The {topic} are what they are, and that is all for {k}.",
    }
    for k, topic in enumerate(["clocks", "rivers", "violins", "glaciers", "bridges", "lanterns"])
]


@pytest.fixture
def prefs(tmp_path):
    path = tmp_path / "prefs.jsonl"
    path.write_text("\n".join(map(json.dumps, PAIRS)) + "\n")
    return path


def run(prefs, out, endpoint, *arguments, oracle="chat", key=None):
    settings = {
        "base_url": endpoint if isinstance(endpoint, str) else endpoint.url,
        "cache": str(prefs.parent / "cache"),
        "backoff_s": 0.01,
        "api_key_env": key,
    }
    gin = [f"--gin.ChatSettings.{name}={value!r}" for name, value in settings.items()]
    flags = ["--data", prefs, "--out", out, "--gin.MODEL='model-x'", *gin, *arguments]
    return main(["augment", *(["--oracle", oracle] if oracle else []), *map(str, flags)])


def card(out):
    return json.loads(out.with_name(f"{out.name}.card.json").read_text())


@pytest.mark.parametrize("name", ["groups.jsonl", "groups"])
def test_a_model_augments_and_the_card_says_what_it_did_and_cost(prefs, name, capsys):
    out = prefs.with_name(name)
    with FakeEndpoint() as endpoint:
        prices = ("--gin.ChatSettings.prompt_price=2.0", "--gin.ChatSettings.reply_price=0.0")
        assert run(prefs, out, endpoint, *prices, "--degrade-per-pair", 1) == 0
        sent = len(endpoint.requests)
    groups = list(read_groups(out))
    assert {group.metadata["oracle"] for group in groups} == {"model-x"}
    assert {group.metadata["oracle_prompts"].split("/")[0] for group in groups} == {"crome-1"}
    origins = [response.origin for group in groups for response in group.responses]
    assert origins.count(Origin.DEGRADED) == len(PAIRS)
    assert origins.count(Origin.UPGRADED) == 2 * len(PAIRS)
    figures = card(out)
    assert figures["groups"] == len(PAIRS)
    assert {row["origin"]: row["count"] for row in figures["responses"]} == {o: origins.count(o) for o in set(origins)}
    counted = sum(row["count"] for row in figures["comparisons"])
    assert counted == sum(len(group.comparisons) for group in groups)
    assert figures["oracle"]["requests sent"] == sent == figures["oracle"]["replies"]
    assert figures["oracle"]["tokens"] == 150 * sent
    assert figures["oracle"]["dollars"] == pytest.approx(200 * sent / 1e6)
    assert figures["oracle"]["oracle_prompts"] == groups[0].metadata["oracle_prompts"]
    # What the fake model writes is always long: the card must show that leak, and its size.
    drift = {(row["made"], row["attribute"]): row for row in figures["drift"]}
    assert all(row["length"] > 1.3 for (made, _), row in drift.items() if made == "upgraded")
    page = out.with_name(f"{out.name}.card.html").read_text()
    assert "<ins>" in page
    assert "<del>" in page
    assert "crome-1/" in page
    assert f"{sent} requests" in capsys.readouterr().out


@pytest.mark.parametrize("oracle", ["offline", "chat"])
def test_it_says_how_far_it_is(oracle, prefs, capsys):
    with FakeEndpoint() as endpoint:
        assert run(prefs, prefs.with_name("groups.jsonl"), endpoint, oracle=oracle) == 0
    assert f"augment: group {len(PAIRS)}/{len(PAIRS)}" in capsys.readouterr().err


def test_nothing_is_sent_or_written_by_a_dry_run(prefs, capsys):
    out = prefs.with_name("groups.jsonl")
    with FakeEndpoint() as endpoint:
        assert run(prefs, out, endpoint, "--dry-run") == 0
        assert endpoint.requests == []
        said = capsys.readouterr().out
        assert run(prefs, out, endpoint) == 0
        assert said.startswith(f"{len(endpoint.requests)} requests to model-x, 0 of them answered already")
        assert "what they cost is not known" in said
        assert "no price given" in capsys.readouterr().out
        assert "dollars" not in card(out)["oracle"]
    assert main(["augment", "--data", str(prefs), "--out", str(out), "--dry-run"]) == 2
    assert "the offline oracle asks none" in capsys.readouterr().err


def test_a_spent_budget_leaves_no_output_and_the_same_command_with_more_goes_on(prefs, capsys):
    out = prefs.with_name("groups.jsonl")
    with FakeEndpoint() as endpoint:
        small = ("--gin.ChatSettings.token_budget=4000", "--gin.ChatSettings.max_reply_tokens=200")
        assert run(prefs, out, endpoint, *small) == 2
        assert "the budget is spent" in capsys.readouterr().err
        assert not out.exists()
        assert not out.with_name("groups.jsonl.card.json").exists()
        first = len(endpoint.requests)
        assert 0 < first * 150 <= 4000
        assert run(prefs, out, endpoint, small[1]) == 0
        assert len({json.dumps(body) for body in endpoint.requests}) == len(endpoint.requests)
        whole = out.read_bytes()
        assert run(prefs, out, "http://127.0.0.1:9/v1", small[1], "--overwrite", oracle="replay") == 0
        assert out.read_bytes() == whole
        assert card(out)["oracle"]["requests sent"] == 0
        warmer = (small[1], "--gin.ChatSettings.temperature=0.9", "--overwrite")
        assert run(prefs, out, "http://127.0.0.1:9/v1", *warmer, oracle="replay") == 2
        assert "replies are not recorded there (model-x, temperature 0.9, " in capsys.readouterr().err
        assert out.read_bytes() == whole


@pytest.mark.parametrize("how", [[], ["--beam", "direct", "--groups-per-shard", "2"]], ids=["process", "beam"])
def test_the_card_of_a_run_that_went_on_is_that_of_the_whole_run(how, prefs):
    """Nothing of what the first life sent and spent is missing, and what it paid for is not called an earlier run's."""
    data, out = prefs, prefs.with_name("groups")
    if how:
        pytest.importorskip("apache_beam")
        data = prefs.with_name("data")
        none = [f"--{name}-per-pair=0" for name in ("degrade", "upgrade", "align")]
        assert main(["augment", "--data", str(prefs), "--out", str(data), *none, "--neutrals-per-group=0"]) == 0
    price = ["--gin.PROMPT_PRICE=1.0", "--gin.REPLY_PRICE=1.0", "--gin.ChatSettings.attempts=1"]
    one_by_one = "--gin.ChatSettings.concurrency=1"
    with FakeEndpoint(lambda number, body: Answer(status=503) if number == 15 else None) as endpoint:
        assert run(prefs, out, endpoint, *how, *price, one_by_one, "--data", data) == 2
        assert run(prefs, out, endpoint, *how, *price, one_by_one, "--data", data) == 0
        first = card(out)["oracle"]
        answered = endpoint.answered
        assert first["requests sent"] == len(endpoint.requests) == answered + 1
        assert (first["replies"], first["replies kept from before"]) == (answered, 0)
        assert first["attempts that failed"] == {"HTTP 503": 1}
        assert (first["tokens"], first["dollars"]) == (150 * answered, pytest.approx(150 * answered / 1e6))
        # Another run of the same data pays nothing, and says so.
        other = prefs.with_name("other")
        assert run(prefs, other, endpoint, *how, *price, one_by_one, "--data", data) == 0
        again = card(other)["oracle"]
        assert (again["requests sent"], again["tokens"], again["dollars"]) == (0, 0, 0)
        assert again["replies kept from before"] >= answered
        assert len(endpoint.requests) == answered + 1


def test_the_page_escapes_what_a_model_writes(prefs):
    evil = "<script>alert('x')</script> is the answer of the day, and it is for you."

    def behave(number, body):
        if body["response_format"]["json_schema"]["name"] in ("degrade", "upgrade"):
            return Answer(json.dumps({"declined": False, "text": f"{evil} {number}", "edit": "</style><b>x"}))
        return None

    out = prefs.with_name("groups.jsonl")
    with FakeEndpoint(behave) as endpoint:
        assert run(prefs, out, endpoint) == 0
    page = out.with_name("groups.jsonl.card.html").read_text()
    assert "<script" not in page
    assert "</style><b>" not in page


def test_a_card_replaces_no_other_file(prefs, capsys):
    out = prefs.with_name("groups.jsonl")
    thesis = prefs.with_name("groups.jsonl.card.html")
    thesis.write_text("years of work")
    assert main(["augment", "--data", str(prefs), "--out", str(out)]) == 2
    assert "is taken by no data card" in capsys.readouterr().err
    assert thesis.read_text() == "years of work"
    assert not out.exists()


def test_one_flag_is_enough_for_a_model_of_this_machine(prefs, capsys):
    out = prefs.with_name("groups.jsonl")
    assert main(["augment", "--oracle", "local", "--data", str(prefs), "--out", str(out), "--dry-run"]) == 0
    assert " requests to smollm2-135m, " in capsys.readouterr().out
    # As many at a time as a laptop serves: the context of each takes memory.
    assert configured("local").chat.concurrency == 2


def test_the_papers_recipe_without_its_key_is_refused_and_its_dry_run_is_not(prefs, monkeypatch, capsys):
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    out = prefs.with_name("groups.jsonl")
    with FakeEndpoint() as endpoint:
        how = {"oracle": None, "key": "GEMINI_API_KEY"}
        assert run(prefs, out, endpoint, "--gin_file=gin/augment/crome.gin", "--dry-run", **how) == 0
        assert run(prefs, out, endpoint, "--gin_file=gin/augment/crome.gin", **how) == 2
        assert "GEMINI_API_KEY is not set" in capsys.readouterr().err
        assert endpoint.requests == []
    assert not out.exists()


def test_a_run_all_of_whose_requests_are_refused_leaves_no_output(prefs, capsys):
    out = prefs.with_name("groups.jsonl")
    with FakeEndpoint(lambda number, body: Answer(status=400)) as endpoint:
        assert run(prefs, out, endpoint) == 2
    said = capsys.readouterr().err
    assert f"all of the {2 * len(PAIRS)} requests were refused" in said  # A question and an alignment for each.
    assert not out.exists()


@pytest.mark.parametrize("how", [[], ["--beam", "direct"]], ids=["process", "beam"])
def test_requests_that_never_got_a_reply_are_the_last_that_is_said(how, prefs, capsys):
    data, out = prefs, prefs.with_name("groups")
    if how:
        pytest.importorskip("apache_beam")
        data = prefs.with_name("data")
        none = [f"--{name}-per-pair=0" for name in ("degrade", "upgrade", "align")]
        assert main(["augment", "--data", str(prefs), "--out", str(data), *none, "--neutrals-per-group=0"]) == 0

    def behave(number, body):
        user = body["messages"][1]["content"]
        if body["response_format"]["json_schema"]["name"] == "align":
            return Answer(status=500) if "violins" in user else Answer(status=422) if "rivers" in user else None

    with FakeEndpoint(behave) as endpoint:
        settings = ("--gin.ChatSettings.attempts=2", "--gin.ChatSettings.unanswered=1")
        assert run(prefs, out, endpoint, *how, *settings, "--data", data, "--groups-per-shard", 3) == 0
        asked = len(endpoint.requests) - 1  # One was sent twice.
    said = capsys.readouterr().out
    assert "(failed: 1 HTTP 422, 2 HTTP 500), " in said
    assert said.splitlines()[-3:] == [
        f"2 of {asked} answers never came ({2 / asked:.1%}), and what they were for is missing:",
        "       1 failed 2 times, at last with HTTP 500",
        "       1 the endpoint refuses it (HTTP 422)",
    ]
    figures = card(out)["oracle"]
    assert figures["requests in all"] == asked
    assert sum(figures["requests without a reply"].values()) == 2


def test_a_model_must_be_named(prefs, capsys):
    out = prefs.with_name("groups.jsonl")
    assert main(["augment", "--oracle", "chat", "--data", str(prefs), "--out", str(out)]) == 2
    assert "--gin.MODEL" in capsys.readouterr().err


SUBJECTS = (
    "glaciers carve mountain valleys",
    "bakers raise sourdough loaves",
    "pilots land heavy aircraft",
    "spiders weave sticky webs",
    "sailors navigate foggy coasts",
    "potters glaze porcelain bowls",
    "judges weigh contradictory testimony",
    "beekeepers harvest summer honey",
)


def test_the_papers_recipe_runs_from_its_gin_file(tmp_path, capsys):
    """Every answer along every attribute, four irrelevant-query ties a group, and nothing else."""
    data, out = tmp_path / "prefs.jsonl", tmp_path / "groups"
    records = [
        {
            "id": f"p{k}",
            "prompt": f"How do {subject}?",
            "chosen": f"First this, then that, {k}.",
            "rejected": f"No {k}.",
        }
        for k, subject in enumerate(SUBJECTS)
    ]
    data.write_text("\n".join(map(json.dumps, records)) + "\n")
    with FakeEndpoint() as endpoint:
        assert run(data, out, endpoint, "--gin_file=gin/augment/crome.gin", oracle=None) == 0
        bodies = endpoint.requests
    n, named = len(SUBJECTS), 3  # Attributes that the fake model names, of the five that it is asked for.
    asked = collections.Counter(body["response_format"]["json_schema"]["name"] for body in bodies)
    assert asked == {"rubrics": n, "degrade": named * n, "upgrade": named * n}
    assert not any("seed" in body for body in bodies)
    groups = list(read_groups(out))
    kinds = collections.Counter(c.kind for group in groups for c in group.comparisons)
    assert kinds == {Kind.HUMAN: n, Kind.CAUSAL: 2 * named * n, Kind.NEUTRAL: 4 * n}
    for group in groups:
        origins = collections.Counter(response.origin for response in group.responses)
        assert origins == {
            Origin.ORIGINAL: 2, Origin.DEGRADED: named, Origin.UPGRADED: named, Origin.IRRELEVANT: 8,
        }  # fmt: skip
        for c in group.comparisons:
            left, right = (group.responses[side] for side in (c.left, c.right))
            if c.kind is Kind.CAUSAL:
                made = left if left.origin is Origin.UPGRADED else right
                assert c.attribute == made.attribute
                # A raised answer beats the rejected one that it was made of, the chosen one a lowered one.
                assert (left.origin, right.origin) in (
                    (Origin.UPGRADED, Origin.ORIGINAL),
                    (Origin.ORIGINAL, Origin.DEGRADED),
                )
            elif c.kind is Kind.NEUTRAL:
                assert c.target == 0.5
                assert left.origin is right.origin is Origin.IRRELEVANT
    figures = card(out)
    assert sum(row["count"] for row in figures["comparisons"]) == kinds.total()
    assert figures["oracle"]["replies"] == len(bodies)


def configured(name, *bindings):
    return configure(augmentation, [f"gin/augment/{name}.gin"], list(bindings))()


def test_one_gin_file_is_the_papers_recipe():
    chosen = configured("crome", ("BASELINE", "'runs/plain'"))
    assert chosen.oracle == "chat"
    assert chosen.chat.model == "gemini-2.0-flash"
    assert chosen.chat.api_key_env == "GEMINI_API_KEY"
    assert (chosen.baseline, chosen.unsure, chosen.unsure_kinds) == ("runs/plain", 0.2, ("causal",))
    recipe = chosen.recipe
    # Every answer along every attribute, IQN ties and no others, nothing that the paper does not have.
    assert recipe.degrade_per_pair == recipe.upgrade_per_pair == recipe.rubrics_per_prompt
    assert recipe.neutrals_per_group > 0
    further = ("align_per_pair", "paraphrase_per_pair", "joint_per_pair", "rewritten_twice_per_pair", "permutations")
    assert not any(getattr(recipe, field) for field in (*further, "implied", "judge"))
    assert recipe.chain_steps == 1


def test_the_other_gin_files_are_what_their_headers_say():
    everything = configured("mixture").recipe
    for field in ("align_per_pair", "paraphrase_per_pair", "joint_per_pair", "rewritten_twice_per_pair", "judge"):
        assert getattr(everything, field)
    rrm = configured("rrm", ("BASELINE", "'runs/plain'"))
    assert (rrm.baseline, rrm.unsure, rrm.unsure_kinds, rrm.recipe.permutations) == ("runs/plain", 0.2, (), 2)
    assert not any(getattr(rrm.recipe, name) for name in vars(Recipe()) if name.endswith(("_per_pair", "_per_group"))
                   and name != "max_pairs_per_group")  # fmt: skip
    assert configured("base").recipe == Recipe()
    # No file has prices: they would be those of another model, or of another year.
    for name in ("base", "crome", "mixture", "local"):
        assert configured(name).chat.cost(10**6, 10**6) is None
    assert configured("local").oracle == "local"
    assert configured("crome", ("MODEL", "'other'"), ("RUBRICS", "2")).recipe.degrade_per_pair == 2


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        (("ChatSettings.concurrency", "0"), "ChatSettings.concurrency is 0"),
        (("ChatSettings.concurrency", "'many'"), "ChatSettings.concurrency is 'many', not int"),
        (("Recipe.chain_steps", "0"), "Recipe.chain_steps is 0"),
        (("augmentation.oracle", "'delphi'"), "give one of chat, local, offline, replay"),
    ],
)
def test_a_wrong_value_is_named(binding, said):
    with pytest.raises(CromeError, match=re.escape(said)):
        configured("crome", binding)


def test_every_oracle_is_offered():
    assert set(ORACLES) == {"chat", "local", "offline", "replay"}


def test_the_card_of_the_offline_editor_shows_the_drift_of_real_answers(shared_data, tmp_path):
    source = shared_data / "train" / "ultrafeedback_binarized_sample_train_clean.jsonl.gz"
    with gzip.open(source, "rt") as file:
        lines = [line for line, _ in zip(file, range(40), strict=False)]
    data, out = tmp_path / "data.jsonl", tmp_path / "groups.jsonl"
    data.write_text("".join(lines))
    assert main(["augment", "--data", str(data), "--out", str(out)]) == 0
    figures = card(out)
    lowered = [row for row in figures["drift"] if row["made"] == "degraded"]
    assert sum(row["answers"] for row in lowered) > 40
    # The editor keeps length within a band of a quarter, and does not lean to one side.
    assert all(0.75 <= row["length"] <= 1.25 for row in lowered)
    assert figures["oracle"] == {"oracle": "offline"}
    assert sum(row["count"] for row in figures["dropped"]) > 0
