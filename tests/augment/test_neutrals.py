import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crome_jax.augment import Account, add_neutrals
from crome_jax.augment.neutrals import ANSWER_OVERLAP, LEAST_WORDS, PROMPT_OVERLAP, unrelated
from crome_jax.augment.words import content_words, overlap
from crome_jax.groups import Comparison, Kind, Message, Origin, Response, build_group, prompt_text

TOPICS = [
    "river boat harbour captain",
    "omelette butter kitchen recipe",
    "saturn telescope planet orbit",
    "violin concert orchestra melody",
    "football goalkeeper stadium league",
    "bicycle wheel pedal chain",
]


PAIR = Comparison(0, 1)


def group(id, topic, *, causal=True, tie=False):
    words = topic.split()
    responses = [Response(f"{words[0]} and {words[1]} ({id})"), Response(f"{words[2]} or {words[3]} ({id})")]
    comparisons = [Comparison(0, 1, target=0.5 if tie else 1.0)]
    if causal:
        responses.append(Response(f"no {words[1]} ({id})", origin=Origin.DEGRADED, parent=0, attribute="order"))
        comparisons.append(Comparison(0, 2, kind=Kind.CAUSAL, attribute="order"))
    return build_group(id=id, prompt=f"Tell me: {topic}?", responses=responses, comparisons=comparisons)


def neutrals(group):
    return [c for c in group.comparisons if c.kind is Kind.NEUTRAL]


topics = st.lists(st.sampled_from(TOPICS), min_size=2, max_size=14)


@settings(max_examples=60)
@given(topics, st.integers(0, 5), st.randoms(use_true_random=False))
def test_neutrals_are_ties_of_borrowed_answers_that_have_nothing_to_do_with_the_prompt(names, seed, rng):
    groups = [group(f"g{k}", topic) for k, topic in enumerate(names)]
    out = {g.id: g for g in add_neutrals(groups, seed=seed)}
    by_id = {g.id: g for g in groups}
    for host in out.values():
        old = by_id[host.id]
        assert host.responses[: len(old.responses)] == old.responses
        assert host.comparisons[: len(old.comparisons)] == old.comparisons
        topic = content_words(prompt_text(host.prompt))
        for c in neutrals(host):
            assert c.target == 0.5
            left, right = host.responses[c.left], host.responses[c.right]
            assert left.metadata["donor"] == right.metadata["donor"] != host.id
            donor = by_id[left.metadata["donor"]]
            lent = {(donor.responses[d.left].text, donor.responses[d.right].text) for d in donor.comparisons}
            assert (left.text, right.text) in lent
            assert overlap(topic, content_words(prompt_text(donor.prompt))) <= PROMPT_OVERLAP
            for response in (left, right):
                assert response.origin is Origin.IRRELEVANT
                assert response.parent is None
                assert len(content_words(response.text) & topic) <= ANSWER_OVERLAP * len(topic)
    assert {g.id: g for g in add_neutrals(rng.sample(groups, len(groups)), seed=seed)} == out


def test_all_lend_about_equally_often():
    groups = [group(f"g{k}", topic) for k, topic in enumerate(TOPICS)]
    out = list(add_neutrals(groups, neutrals_per_group=2))
    assert all(len(neutrals(g)) == 2 for g in out)
    donors = [g.responses[c.left].metadata["donor"] for g in out for c in neutrals(g)]
    assert sorted(donors) == sorted(g.id for g in groups for _ in range(2))


def test_the_mixture_of_human_and_causal_pairs():
    groups = [group(f"{k}-{j}", topic) for k in range(20) for j, topic in enumerate(TOPICS)]
    for share, kinds in ((0.0, {"human"}), (1.0, {"causal"}), (0.5, {"human", "causal"})):
        account = Account()
        list(add_neutrals(groups, causal_share=share, account=account))
        assert account.neutrals.keys() == kinds
    # 240 fair draws: four standard deviations are 31.
    assert abs(account.neutrals["human"] - 120) <= 31


def test_a_donor_without_causal_pairs_lends_its_human_one_and_ties_are_not_lent():
    groups = [group("a", TOPICS[0], causal=False), group("b", TOPICS[1], causal=False)]
    assert all(len(neutrals(g)) == 1 for g in add_neutrals(groups, neutrals_per_group=1, causal_share=1.0))
    ties = [group("a", TOPICS[0], causal=False, tie=True), group("b", TOPICS[1], causal=False, tie=True)]
    account = Account()
    assert list(add_neutrals(ties, account=account)) == ties
    assert account.dropped["neutral", "donor", "no pair to lend"] == 2


def test_related_prompts_are_passed_over_and_counted():
    groups = [group("a", TOPICS[0]), group("b", "river boat harbour sailor")]
    account = Account()
    assert list(add_neutrals(groups, account=account)) == groups
    assert account.dropped == {("neutral", "donor", "related prompt"): 2}
    assert account.short["neutral"] == 4


UNSPACED = {
    "Chinese": (
        "请解释量子力学的基本原理。",
        "量子力学中的测不准原理是什么意思？",
        "如何做一道好吃的西红柿炒鸡蛋？ 帮我写一首关于春天的诗 怎样用Python读取CSV文件？ 为什么天空会呈现蓝色？",
    ),
    "Japanese": (
        "量子力学の基本原理を教えてください。",
        "量子力学の不確定性原理とは何ですか？",
        "美味しいチキンカレーの作り方は？ 経済学の本を推薦してください 英語の会話力を高めるには？ 世界大戦の原因は何？",
    ),
    "Thai": (
        "อธิบายหลักการพื้นฐานของกลศาสตร์ควอนตัม",
        "หลักความไม่แน่นอนในกลศาสตร์ควอนตัมหมายความว่าอะไร",
        "ทำต้มยำกุ้งอย่างไรให้อร่อย แมวของฉันไม่ยอมกินอาหาร สาเหตุของสงครามโลกครั้งที่สอง แปลประโยคนี้เป็นภาษาฝรั่งเศส",
    ),
}
"""A prompt, one that is related to it, and four that are not."""


@pytest.mark.parametrize("language", UNSPACED)
def test_prompts_without_spaces_are_hosts_and_related_ones_are_told_from_others(language):
    host, related, others = UNSPACED[language]
    others = others.split()
    topic = content_words(host)
    assert len(topic) >= LEAST_WORDS
    assert not unrelated(topic, content_words(related))
    assert all(unrelated(topic, content_words(other)) for other in others)
    # What serves the host stands under no neutral, what serves another may.
    groups = [
        build_group(id=f"g{k}", prompt=prompt, responses=[f"{prompt}!", f"{prompt}?"], comparisons=[PAIR])
        for k, prompt in enumerate((host, related, *others))
    ]
    account = Account()
    out = next(add_neutrals(groups, neutrals_per_group=4, account=account))
    donors = {out.responses[c.left].metadata["donor"] for c in neutrals(out)}
    assert donors == {"g2", "g3", "g4", "g5"}
    assert account.dropped["neutral", "host", "too few content words in the prompt"] == 0


@pytest.mark.parametrize("prompt", ["继续", "为什么？", "はい", "どうすればいいですか", "ครับ", "ทำอย่างไร"])
def test_what_has_only_grammar_has_no_topic_without_spaces_either(prompt):
    assert len(content_words(prompt)) < LEAST_WORDS


def test_words_between_what_has_no_spaces_are_words():
    assert content_words("GPT模型は3つ。Naïve cafés’ models, 안녕") == {
        "gpt",
        "模型",
        "3",
        "naïve",
        "café",
        "model",
        "안녕",
    }


def test_an_answer_that_serves_the_host_is_no_neutral():
    host = group("a", TOPICS[0])
    donor = build_group(
        id="b",
        prompt="Name four nautical nouns please",
        responses=["The captain takes the boat up the river to the harbour", "No"],
        comparisons=[Comparison(0, 1)],
    )
    (out, _) = add_neutrals([host, donor])
    assert out == host


def test_a_pair_of_which_one_answer_declines_is_not_lent():
    def donor(better, worse):
        return build_group(id="b", prompt=f"Tell me: {TOPICS[1]}?", responses=[better, worse], comparisons=[PAIR])

    host, refusal, help_ = group("a", TOPICS[0]), "I'm sorry, but I can't help with that.", "Gladly: melt the butter."
    account = Account()
    for pair in ((refusal, help_), (help_, refusal)):
        (out, _) = add_neutrals([host, donor(*pair)], account=account)
        assert out == host
    assert account.dropped["neutral", "donor", "one answer declines"] == 2
    for pair in ((help_, "No idea about eggs."), (refusal, "I won't answer this question.")):
        (out, _) = add_neutrals([host, donor(*pair)])
        assert len(neutrals(out)) == 1


def test_to_a_prompt_without_content_no_answer_is_irrelevant():
    earlier = (Message("user", "What of the violin concert and its melody?"), Message("assistant", "Nice."))
    vague = build_group(
        id="v", prompt=(*earlier, Message("user", "And then?")), responses=["x", "y"], comparisons=[Comparison(0, 1)]
    )
    account = Account()
    out = list(add_neutrals([vague, group("a", TOPICS[0])], account=account))
    assert out[0] == vague
    assert account.dropped["neutral", "host", "too few content words in the prompt"] == 1


def test_earlier_turns_count_as_the_prompt():
    turns = (Message("user", f"Tell me: {TOPICS[0]}?"), Message("assistant", "It is."), Message("user", TOPICS[5]))
    host = build_group(id="h", prompt=turns, responses=["x", "y"], comparisons=[Comparison(0, 1)])
    (out, _) = add_neutrals([host, group("a", TOPICS[0])])
    assert out == host


def test_one_donor_is_borrowed_from_once():
    groups = [group("a", TOPICS[0]), group("b", TOPICS[1])]
    for host in add_neutrals(groups, neutrals_per_group=5):
        assert len(neutrals(host)) == 1


def test_one_group_alone_borrows_nothing():
    assert list(add_neutrals([])) == []
    assert list(add_neutrals([group("a", TOPICS[0])])) == [group("a", TOPICS[0])]
