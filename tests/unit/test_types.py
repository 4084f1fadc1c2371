import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.types import (
    Call,
    Cost,
    Group,
    JudgeIdentity,
    Message,
    Outcome,
    Pair,
    Preference,
    Reading,
    ReadingStatus,
    Reply,
    StepResult,
    StepStatistics,
    Stock,
    Usage,
    Verdict,
    sigmoid,
)

unhurried = settings(deadline=None)
JUDGE = JudgeIdentity(id="judge", model="model", fingerprint=b"fingerprint")
STATISTICS = StepStatistics(
    run="run",
    step=0,
    pairs=0,
    threshold=None,
    sources={},
    statuses={},
    calls=0,
    spent=Cost(),
    prompt_tokens=0,
    completion_tokens=0,
    agreement=None,
    latency_s={},
    remaining={},
    seconds=0.0,
)
logits = st.floats(-50, 50)


def pair(**changes):
    return Pair(**{"prompt": "Which?", "response_a": "this", "response_b": "that", **changes})


def call(preferred):
    status = ReadingStatus.UNPARSEABLE if preferred is None else ReadingStatus.OK
    reading = Reading(status=status, preferred=preferred)
    return Call(key=b"", pair_key=b"", judge=b"", canonical=True, reply=Reply(text=""), reading=reading, created_at=0.0)


def step(groups, values):
    pairs = [each for group in groups for each in group.pairs()]
    outcomes = tuple(Outcome(pair=each, logit=value, source="judge") for each, value in zip(pairs, values, strict=True))
    return StepResult(outcomes=outcomes, statistics=STATISTICS, groups=tuple(groups))


# Pairs


def test_pairs_with_the_same_texts_are_equal_whatever_describes_them():
    plain, described = pair(), pair(id="7", group="g", label="a", metadata={"category": "code"})
    assert plain == described
    assert hash(plain) == hash(described)
    assert plain != pair(response_b="other")
    assert plain != plain.swapped()


def test_messages_may_be_given_as_mappings_and_become_frozen():
    chat = pair(prompt=[{"role": "user", "content": "Hi"}, Message(role="assistant", content="Hello")])
    assert chat.prompt == (Message(role="user", content="Hi"), Message(role="assistant", content="Hello"))
    assert hash(chat) == hash(pair(prompt=chat.prompt))


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (7, TypeError, "a prompt is a string or a list of messages, not int"),
        (None, TypeError, "not NoneType"),
        ([], ValueError, "needs at least one message"),
        (["Hi"], TypeError, "a message is a mapping with 'role' and 'content', not str"),
        ([{"role": "user"}], TypeError, "needs 'role' and 'content'"),
        ([{"role": "user", "content": None}], TypeError, "both strings"),
    ],
)
def test_a_prompt_that_is_neither_text_nor_messages_is_refused(prompt, error, message):
    with pytest.raises(error, match=message):
        pair(prompt=prompt)


@pytest.mark.parametrize("name", ["response_a", "response_b"])
def test_a_response_that_is_no_text_is_refused_by_name(name):
    with pytest.raises(TypeError, match=f"{name} is a string, not NoneType"):
        pair(**{name: None})


@pytest.mark.parametrize(("label", "swapped"), [("a", "b"), ("b", "a"), ("tie", "tie"), (None, None)])
def test_swapping_a_pair_exchanges_responses_and_label_and_keeps_the_rest(label, swapped):
    original = pair(id="7", group="g", label=label, metadata={"category": "code"})
    other = original.swapped()
    assert (other.response_a, other.response_b, other.label) == ("that", "this", swapped)
    assert (other.prompt, other.id, other.group, other.metadata) == ("Which?", "7", "g", {"category": "code"})


@unhurried
@given(st.text(), st.text(), st.text(), st.sampled_from(["a", "b", "tie", None]))
def test_swapping_a_pair_twice_gives_it_back(prompt, first, second, label):
    original = Pair(prompt=prompt, response_a=first, response_b=second, label=label)
    twice = original.swapped().swapped()
    assert twice == original
    assert twice.label == original.label


def test_values_cannot_be_changed_after_they_are_made():
    with pytest.raises(AttributeError):
        pair().response_a = "changed"


# Groups


def test_a_group_compares_every_two_responses_once_in_canonical_order():
    group = Group(prompt="p", responses=("zero", "one", "two"), id="g")
    assert group.indexes() == ((0, 1), (0, 2), (1, 2))
    assert [(each.response_a, each.response_b) for each in group.pairs()] == [("zero", "one"), ("zero", "two"), ("one", "two")]
    assert [each.id for each in group.pairs()] == ["g:0-1", "g:0-2", "g:1-2"]
    assert {each.group for each in group.pairs()} == {"g"}


def test_identical_responses_of_a_group_stay_apart():
    assert len(Group(prompt="p", responses=("same", "same", "same"), id="g").pairs()) == 3


def test_a_masked_response_is_compared_with_nobody():
    group = Group(prompt="p", responses=("zero", "one", "two"), id="g", mask=(True, False, True))
    assert group.members == (0, 2)
    assert [each.id for each in group.pairs()] == ["g:0-2"]


def test_a_mask_of_another_length_than_the_group_is_refused():
    with pytest.raises(ValueError, match="group 'g': 2 mask entries for 3 responses"):
        Group(prompt="p", responses=("a", "b", "c"), id="g", mask=(True, False))


def test_a_group_made_from_lists_is_the_group_made_from_tuples():
    listed = Group(prompt="p", responses=["a", "b"], id="g", mask=[True, False])
    assert listed == Group(prompt="p", responses=("a", "b"), id="g", mask=(True, False))
    assert hash(listed) == hash(Group(prompt="p", responses=("a", "b"), id="g", mask=(True, False)))


def test_one_string_is_not_taken_apart_into_responses_of_one_letter():
    with pytest.raises(TypeError, match="group 'g': responses is a tuple of strings, not one string"):
        Group(prompt="p", responses="abc", id="g")


def test_a_missing_response_is_named_by_its_group_and_index():
    with pytest.raises(TypeError, match="group 'g': response 1 is a string, not NoneType"):
        Group(prompt="p", responses=("a", None), id="g")


@unhurried
@given(st.lists(st.booleans(), max_size=9))
def test_a_group_has_a_pair_for_every_two_of_its_members(mask):
    group = Group(prompt="p", responses=tuple("r" for _ in mask), id="g", mask=tuple(mask))
    members = sum(mask)
    assert len(group.pairs()) == len(group.indexes()) == members * (members - 1) // 2
    assert all(i < j and mask[i] and mask[j] for i, j in group.indexes())


# Preferences, verdicts, outcomes


@pytest.mark.parametrize("name", ["logit", "uncertainty", "variance"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_preference_that_is_not_finite_is_refused_where_it_is_made(name, value):
    with pytest.raises(ValueError, match=f"a preference needs a finite {name}"):
        Preference(**{"logit": 0.0, name: value})


def test_a_preference_without_a_logit_is_refused():
    with pytest.raises(ValueError, match="a preference needs a finite logit, not None"):
        Preference(logit=None)


@unhurried
@given(logits, st.none() | st.floats(1, 10), st.none() | st.floats(0, 10))
def test_swapping_a_preference_negates_it_and_keeps_its_uncertainty(logit, uncertainty, variance):
    belief = Preference(logit=logit, uncertainty=uncertainty, variance=variance)
    other = belief.swapped()
    assert other == Preference(logit=-logit, uncertainty=uncertainty, variance=variance)
    assert other.swapped() == belief
    assert belief.probability + other.probability == pytest.approx(1)


@pytest.mark.parametrize(("logit", "probability"), [(0.0, 0.5), (2.0, 0.8807970779778823), (1e4, 1.0), (-1e4, 0.0), (math.inf, 1.0)])
def test_probability_is_the_logistic_function_without_overflow(logit, probability):
    assert sigmoid(logit) == pytest.approx(probability)


@pytest.mark.parametrize(
    ("forward", "backward", "agree"),
    [(1, -1, True), (-1, 1, True), (0, 0, True), (1, 1, False), (1, 0, False), (1, None, None), (None, None, None)],
)
def test_two_orders_agree_when_both_choose_the_same_response(forward, backward, agree):
    assert Verdict(choice="tie", logit=0.0, judge=JUDGE, forward=call(forward), backward=call(backward)).swapped_agree is agree


def test_a_verdict_of_one_order_neither_agrees_nor_disagrees():
    verdict = Verdict(choice="a", logit=1.0, judge=JUDGE, forward=call(1))
    assert verdict.swapped_agree is None
    assert verdict.calls == (verdict.forward,)


@unhurried
@given(st.sampled_from(["a", "b", "tie", "inconsistent"]), logits, st.sampled_from([1, 0, -1]), st.sampled_from([1, 0, -1, None]))
def test_swapping_a_verdict_twice_gives_it_back(choice, logit, forward, backward):
    verdict = Verdict(choice=choice, logit=logit, judge=JUDGE, forward=call(forward), backward=call(backward))
    other = verdict.swapped()
    assert other.logit == -logit
    assert other.choice == {"a": "b", "b": "a"}.get(choice, choice)
    assert (other.forward, other.backward) == (verdict.backward, verdict.forward)
    assert other.swapped_agree == verdict.swapped_agree
    assert other.swapped() == verdict


@pytest.mark.parametrize(("status", "preferred"), [(ReadingStatus.OK, None), (ReadingStatus.OK, 2), (ReadingStatus.REFUSED, 1)])
def test_a_reading_prefers_something_exactly_when_it_could_be_read(status, preferred):
    with pytest.raises(ValueError, match="cannot prefer"):
        Reading(status=status, preferred=preferred)


def test_an_outcome_tells_the_judges_choice_a_tie_for_identical_texts_and_nothing_otherwise():
    verdict = Verdict(choice="b", logit=-2.0, judge=JUDGE)
    assert Outcome(pair=pair(), logit=-2.0, source="judge", verdict=verdict).choice == "b"
    assert Outcome(pair=pair(), logit=0.0, source="judge", status="identical").choice == "tie"
    assert Outcome(pair=pair(), logit=0.3, source="scorer").choice is None


@pytest.mark.parametrize("zero", [0.0, -0.0, 0])
def test_a_logit_of_nothing_never_has_a_sign(zero):
    belief, verdict = Preference(logit=zero), Verdict(choice="tie", logit=zero, judge=JUDGE)
    outcome = Outcome(pair=pair(), logit=-zero, source="judge")
    for value in (belief, belief.swapped(), verdict, verdict.swapped(), outcome):
        assert str(value.logit) == "0.0"


def test_reasoning_and_cached_tokens_are_not_counted_twice():
    assert Usage(prompt=100, completion=50, reasoning=40, cached=90).total == 150


def test_costs_add_and_subtract_part_by_part():
    one, other = Cost(requests=2, tokens=300, usd=0.25), Cost(requests=1, tokens=100, usd=0.125)
    assert one + other == Cost(requests=3, tokens=400, usd=0.375)
    assert one + other - other == one


@pytest.mark.parametrize(
    ("stock", "admitted"),
    [
        (Stock(), True),
        (Stock(requests=2, tokens=300, usd=0.25), True),
        (Stock(requests=1), False),
        (Stock(tokens=299), False),
        (Stock(usd=0.24), False),
        (Stock(requests=0), False),
    ],
)
def test_a_stock_admits_what_stays_within_every_limit(stock, admitted):
    assert stock.admits(Cost(requests=2, tokens=300, usd=0.25)) is admitted


# Advantages


def test_advantages_of_three_responses_are_the_mean_logit_against_the_siblings():
    group = Group(prompt="p", responses=("zero", "one", "two"), id="g")
    assert step([group], [2.0, 1.0, -0.5]).advantages() == {"g": (1.5, (-2.0 - 0.5) / 2, (-1.0 + 0.5) / 2)}


def test_a_masked_response_has_no_advantage_and_its_siblings_count_one_fewer():
    group = Group(prompt="p", responses=("zero", "one", "two"), id="g", mask=(True, False, True))
    assert step([group], [2.0]).advantages() == {"g": (2.0, 0.0, -2.0)}


@pytest.mark.parametrize("mask", [(True, False), (False, False)])
def test_fewer_than_two_unmasked_responses_give_no_advantage(mask):
    group = Group(prompt="p", responses=("zero", "one"), id="g", mask=mask)
    assert step([group], []).advantages() == {"g": (0.0, 0.0)}


def test_the_scale_multiplies_every_advantage():
    group = Group(prompt="p", responses=("zero", "one"), id="g")
    assert step([group], [2.0]).advantages(scale=0.5) == {"g": (1.0, -1.0)}


def test_advantages_of_a_step_routed_without_groups_say_what_to_call_instead():
    outcome = Outcome(pair=pair(), logit=1.0, source="judge")
    with pytest.raises(ValueError, match="route_groups"):
        StepResult(outcomes=(outcome,), statistics=STATISTICS).advantages()


def test_two_groups_of_one_id_are_refused_rather_than_one_of_them_lost():
    group = Group(prompt="p", responses=("zero", "one"), id="g")
    with pytest.raises(ValueError, match="'g' names two groups"):
        step([group, group], [1.0, 2.0]).advantages()


@st.composite
def routed_steps(draw):
    masks = draw(st.lists(st.lists(st.booleans(), max_size=6), max_size=4))
    groups = [
        Group(prompt="p", responses=tuple(f"r{k}" for k in range(len(mask))), id=f"g{n}", mask=tuple(mask)) for n, mask in enumerate(masks)
    ]
    values = [draw(logits) for group in groups for _ in group.pairs()]
    return groups, values


@unhurried
@given(routed_steps(), st.floats(-3, 3))
def test_advantages_follow_the_formula_and_sum_to_zero_in_every_group(routed, scale):
    groups, values = routed
    result = step(groups, values)
    assert result.logits == tuple(values)
    advantages = result.advantages(scale=scale)
    assert list(advantages) == [group.id for group in groups]
    rest = iter(values)
    for group in groups:
        table = {}
        for i, j in group.indexes():
            table[i, j] = next(rest)
            table[j, i] = -table[i, j]
        members = group.members
        for i, found in enumerate(advantages[group.id]):
            others = [table[i, j] for j in members if j != i] if i in members else []
            assert found == pytest.approx(scale * sum(others) / len(others) if others else 0.0, abs=1e-9)
        assert sum(advantages[group.id]) == pytest.approx(0.0, abs=1e-9)
