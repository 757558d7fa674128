"""The data card: leaks show however rare each attribute's name is, and nothing grows with the number of names."""

import json
import random

import pytest

from crome_jax.augment import attribute_rows
from crome_jax.augment.account import Account
from crome_jax.augment.attribute_rows import OTHERS
from crome_jax.augment.card import ALL, Card
from crome_jax.augment.drift import Drift
from crome_jax.evaluation.card_page import render_card
from crome_jax.groups import Comparison, Kind, Origin, Response, build_group


def group(k, attributes, after=lambda words: words):
    """Return a group of a human pair and a degraded twin for each attribute, which `after` makes of the words."""
    words = [f"w{k}"] * (10 + k % 7)
    twins = [
        Response(" ".join([*after(words), f"x{n}"]), origin=Origin.DEGRADED, parent=0, attribute=attribute)
        for n, attribute in enumerate(attributes)
    ]
    causal = [Comparison(0, 2 + n, kind=Kind.CAUSAL, attribute=name) for n, name in enumerate(attributes)]
    answers = [" ".join([*words, "y"]), "bad", *twins]
    return build_group(id=f"g{k}", prompt="Why?", responses=answers, comparisons=[Comparison(0, 1), *causal])


def card_of(groups, account=None):
    card = Card(Account() if account is None else account)
    for one in groups:
        card.add(one)
    return card


def drift_rows(card):
    return {(row["made"], row["attribute"]): row for row in card.figures({}, {})["drift"]}


def test_a_leak_of_all_attributes_shows_where_each_is_named_once():
    shorter = [group(k, [f"name {k}"], lambda words: [f"**{words[0]}**", *words[3:]]) for k in range(40)]
    rows = drift_rows(card_of(shorter))
    assert {row["length_leak"] for (_, name), row in rows.items() if name != ALL} == {None}
    whole = rows["degraded", ALL]
    assert (whole["answers"], whole["shorter"]) == (40, 1.0)
    assert whole["length_leak"] < -10
    # Two marks in each: the least deviation taken is a half, and 2 / (0.5 / sqrt(40)) is 25.3.
    assert (whole["marks"], whole["marks_leak"]) == ({"bold": 2.0}, {"bold": 25.3})
    assert "25.3" in render_card(card_of(shorter).figures({}, {}), [], "x")
    steady = drift_rows(card_of([group(k, [f"name {k}"]) for k in range(40)]))["degraded", ALL]
    assert (steady["length"], steady["length_leak"], steady["marks"], steady["marks_leak"]) == (1.0, 0.0, {}, {})


def test_a_leak_is_the_mean_in_standard_errors():
    drift = Drift()
    for after in ("a " * 20, "a " * 40, "**a** " * 10):
        drift.merge(Drift.of("a " * 10, after))
    # ln 2, ln 4 and 0: mean ln 2, deviation ln 2, error ln 2 / sqrt(3). Marks 0, 0, 20: mean 6.667, deviation 11.547.
    figures = drift.figures()
    assert (figures["length"], figures["length_leak"]) == (2.0, 1.73)
    assert (figures["marks"], figures["marks_leak"]) == ({"bold": 6.6667}, {"bold": 1.0})
    assert Drift.from_state(json.loads(json.dumps(drift.state()))) == drift


def test_the_most_frequent_attributes_are_shown_and_the_others_as_one_row(monkeypatch):
    monkeypatch.setattr(attribute_rows, "SHOWN", 3)
    names = ["often"] * 9 + ["sometimes"] * 4 + [f"rare {k:02d}" for k in range(20)]
    account = Account()
    account.made.update(("degrade", name) for name in names)
    account.dropped.update(("degrade", name, reason) for name in names for reason in ("empty text", "refused"))
    card = card_of([group(k, [name]) for k, name in enumerate(names)], account)
    figures = card.figures({}, {})
    drift = [(row["attribute"], row["answers"]) for row in figures["drift"]]
    assert drift == [(ALL, 33), ("often", 9), ("sometimes", 4), ("rare 00", 1), (OTHERS, 19)]
    kinds = {(row["kind"], row["attribute"]): row["count"] for row in figures["comparisons"]}
    # The human comparisons, of no attribute, are the most frequent row of that table.
    assert kinds == {("human", "none"): 33, ("causal", "often"): 9, ("causal", "sometimes"): 4, ("causal", OTHERS): 20}
    made = [(row["attribute"], row["count"]) for row in figures["made"]]
    assert made == [("often", 9), ("sometimes", 4), ("rare 00", 1), (OTHERS, 19)]
    reasons = [(row["attribute"], row["reason"], row["count"]) for row in figures["dropped"]]
    assert reasons[2:] == [("sometimes", "empty text", 4), (OTHERS, "refused", 24), (OTHERS, "empty text", 20)]
    assert str(account).count("made degrade") == 4


@pytest.mark.parametrize("held", [12, 60, 16384])
def test_what_is_held_is_bounded_and_the_same_however_cards_are_merged(held, monkeypatch):
    monkeypatch.setattr(attribute_rows, "HELD", held)
    rng = random.Random(0)
    groups, accounts = [], []
    for k in range(100):
        names = rng.sample(["often", "sometimes", *(f"rare {rng.randrange(300)}" for _ in range(3))], 3)
        groups.append(group(k, dict.fromkeys(names), lambda words: words[rng.randrange(5) :]))
        accounts.append(Account())
        accounts[-1].made.update(("degrade", name) for name in names)
        accounts[-1].dropped.update({("neutral", "donor", "related prompt"): 1, ("degrade", names[0], "refused"): 1})

    def whole(order, parts):
        total = Card(Account())
        for part in range(parts):
            own = order[part::parts]
            account = Account()
            for k in own:
                account.made.update(accounts[k].made)
                account.dropped.update(accounts[k].dropped)
            part_of = card_of([groups[k] for k in own], account)
            total.merge(Card.from_state(json.loads(json.dumps(part_of.state()))))
            rows = total._by_attribute
            assert len(rows.drift()) + len(rows.comparisons()) <= held
        return total

    expected = whole(range(100), 1).figures({}, {})
    for parts in (3, 100):
        assert whole(rng.sample(range(100), 100), parts).figures({}, {}) == expected
    assert (expected["rows_by_attribute"]["of_share_of_groups"] == 1) == (held == 16384)
    drift = {row["attribute"]: row["answers"] for row in expected["drift"]}
    assert drift[ALL] == sum(len(one.responses) - 2 for one in groups)
    assert sum(row["count"] for row in expected["comparisons"]) == sum(len(one.comparisons) for one in groups)
    assert sum(row["count"] for row in expected["made"]) == 300
    assert {"by": "neutral", "attribute": "donor", "reason": "related prompt", "count": 100} in expected["dropped"]
    # What is named most is there although most groups are not looked at for names.
    named = [row["attribute"] for row in expected["drift"] if row["attribute"] not in (ALL, OTHERS)]
    assert set(named[:2]) <= {"often", "sometimes"} or held == 12
