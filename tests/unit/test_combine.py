import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.types import Call, JudgeIdentity, Reading, ReadingStatus, Reply
from judgeflow.verdicts.combine import combine

unhurried = settings(deadline=None)
JUDGE = JudgeIdentity(id="judge", model="m", fingerprint=b"f")
M = 2.0


def call(preferred, *, strong=True):
    """A call whose reply prefers +1 the response shown first, -1 the second, 0 neither; or that could not be read."""
    if isinstance(preferred, ReadingStatus):
        reading = Reading(status=preferred)
    else:
        reading = Reading(status=ReadingStatus.OK, preferred=preferred, strong=strong)
    return Call(key=b"k", pair_key=b"p", judge=b"f", canonical=True, reply=Reply(text=""), reading=reading, created_at=0.0)


def verdict(forward, backward, **rules):
    return combine(forward, backward, judge=JUDGE, margin=rules.pop("margin", M), **rules)


# `forward` showed response_a first, so +1 is response_a; `backward` showed response_b first, so -1 is response_a.


@pytest.mark.parametrize(
    ("forward", "backward", "choice", "logit", "agree"),
    [
        (1, -1, "a", M, True),
        (-1, 1, "b", -M, True),
        (0, 0, "tie", 0, True),
        (1, 0, "a", M / 2, False),
        (0, -1, "a", M / 2, False),
        (-1, 0, "b", -M / 2, False),
        (0, 1, "b", -M / 2, False),
        (1, 1, "inconsistent", 0, False),
        (-1, -1, "inconsistent", 0, False),
    ],
)
def test_two_orders_make_one_verdict(forward, backward, choice, logit, agree):
    found = verdict(call(forward), call(backward))
    assert (found.choice, found.logit, found.swapped_agree) == (choice, logit, agree)
    assert len(found.calls) == 2
    assert found.judge is JUDGE


@pytest.mark.parametrize(
    ("forward", "backward", "choice", "logit"),
    [
        ((1, True), (-1, True), "a", M),
        ((1, False), (-1, False), "a", M / 2),
        ((1, True), (-1, False), "a", M * 3 / 4),
        ((-1, False), (1, True), "b", -M * 3 / 4),
        ((1, False), (0, True), "a", M / 4),
        ((1, True), (1, False), "inconsistent", 0),
        ((0, True), (0, True), "tie", 0),
    ],
)
def test_with_grades_a_slight_preference_counts_half(forward, backward, choice, logit):
    calls = call(forward[0], strong=forward[1]), call(backward[0], strong=backward[1])
    found = verdict(*calls, graded=True)
    assert (found.choice, found.logit) == (choice, pytest.approx(logit))
    ungraded = verdict(*calls)
    assert ungraded.choice == choice
    assert ungraded.logit == verdict(call(forward[0]), call(backward[0])).logit


@pytest.mark.parametrize("missing", [None, *(call(status) for status in ReadingStatus if status is not ReadingStatus.OK)])
@pytest.mark.parametrize(("preferred", "choice", "logit"), [(1, "a", M / 2), (-1, "b", -M / 2), (0, "tie", 0)])
def test_one_order_alone_counts_half_and_the_other_is_left_out(missing, preferred, choice, logit):
    found = verdict(call(preferred), missing)
    assert (found.choice, found.logit, found.swapped_agree) == (choice, logit, None)
    assert (found.forward, found.backward) == (call(preferred), None)
    mirrored = verdict(missing, call(-preferred))
    assert (mirrored.choice, mirrored.logit) == (choice, logit)
    assert (mirrored.forward, mirrored.backward) == (None, call(-preferred))


@pytest.mark.parametrize(("preferred", "choice", "logit"), [(1, "a", M), (-1, "b", -M), (0, "tie", 0)])
def test_where_one_order_was_asked_for_it_counts_in_full(preferred, choice, logit):
    found = verdict(call(preferred), None, single=True)
    assert (found.choice, found.logit) == (choice, logit)
    assert verdict(None, call(-preferred), single=True).logit == logit
    assert verdict(call(preferred, strong=False), None, single=True, graded=True).logit == logit / 2


@pytest.mark.parametrize(("forward", "backward"), [(1, -1), (1, 0), (0, 0), (1, 1)])
def test_both_orders_known_where_one_was_asked_for_are_combined_as_ever(forward, backward):
    assert verdict(call(forward), call(backward), single=True) == verdict(call(forward), call(backward))


@pytest.mark.parametrize("forward", [None, call(ReadingStatus.REFUSED)])
@pytest.mark.parametrize("backward", [None, call(ReadingStatus.TRUNCATED), call(ReadingStatus.UNPARSEABLE)])
def test_without_a_readable_reply_there_is_no_verdict(forward, backward):
    assert verdict(forward, backward) is None
    assert verdict(forward, backward, single=True) is None


calls = st.none() | st.builds(
    call, st.sampled_from([1, 0, -1, *(s for s in ReadingStatus if s is not ReadingStatus.OK)]), strong=st.booleans()
)
rules = st.fixed_dictionaries({"margin": st.floats(1e-3, 1e3), "graded": st.booleans(), "single": st.booleans()})


@unhurried
@given(calls, calls, rules)
def test_the_verdict_on_the_swapped_pair_is_the_swapped_verdict(forward, backward, given_rules):
    found, swapped = verdict(forward, backward, **given_rules), verdict(backward, forward, **given_rules)
    assert swapped == (found and found.swapped())


@unhurried
@given(calls, calls, rules)
def test_a_verdict_stays_within_the_margin_and_its_choice_is_its_sign(forward, backward, given_rules):
    found = verdict(forward, backward, **given_rules)
    if found is None:
        assert all(each is None or each.reading.preferred is None for each in (forward, backward))
        return
    assert abs(found.logit) <= given_rules["margin"]
    assert {"a": found.logit > 0, "b": found.logit < 0}.get(found.choice, found.logit == 0)
    assert all(each.reading.preferred is not None for each in found.calls)


@unhurried
@given(calls, calls, rules)
def test_a_larger_margin_scales_every_logit_and_changes_no_choice(forward, backward, given_rules):
    found, doubled = (
        verdict(forward, backward, **given_rules),
        verdict(forward, backward, **{**given_rules, "margin": 2 * given_rules["margin"]}),
    )
    if found is not None:
        assert doubled.choice == found.choice
        assert doubled.logit == pytest.approx(2 * found.logit)
