"""What a report makes of columns and figures: pure functions."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.cli.sparkline import sparkline
from judgeflow.report import reading
from judgeflow.report.answers import cost, healthy, helps
from judgeflow.report.compare import compare
from judgeflow.report.compose import compose, minutes
from judgeflow.report.figures import Forecast, JudgeFigures, Lift, Share, StepFigures
from judgeflow.report.lift import _wilson, audits_needed, difference, lift, mistakes, ratio_of, ratio_to_random
from judgeflow.report.pace import forecast, left_after, seconds_a_step
from judgeflow.report.reading import JudgeSums, spread
from judgeflow.report.verdicts import Comparison, first_preferred, orders_agree, spoken, tally, verdicts
from judgeflow.routing import agreement
from judgeflow.store.decided import Span, spans
from judgeflow.store.runs import RunRow, Standing
from judgeflow.store.survey import StepRow
from judgeflow.testing.store_contract import JUDGE, make_call, make_question
from judgeflow.types import Agreement, Cost, Pressure, Reading, ReadingStatus, Stock
from judgeflow.verdicts.combine import combine

NOBODY = np.empty(0, dtype=np.uint64)


def said_by(*replies):
    """Replies as (pair, canonical, preferred), where preferred None is one that was not understood, and what differs from that."""
    rows = [(*reply[:3], {"prompt": reply[0], "judge": 0, "sample": 0} | (reply[3] if len(reply) > 3 else {})) for reply in replies]
    return reading.Testimony(
        keys=np.array([row[0] for row in rows], dtype=np.uint64),
        prompts=np.array([row[3]["prompt"] for row in rows], dtype=np.uint64),
        judges=np.array([row[3]["judge"] for row in rows], dtype=np.int16),
        canonical=np.array([row[1] for row in rows], dtype=np.bool_),
        samples=np.array([row[3]["sample"] for row in rows], dtype=np.int16),
        understood=np.array([row[2] is not None for row in rows], dtype=np.bool_),
        preferred=np.array([row[2] or 0 for row in rows], dtype=np.int8),
        strong=np.ones(len(rows), dtype=np.bool_),
        latencies=np.ones(len(rows), dtype=np.float32),
        ended=np.arange(len(rows), dtype=np.float64),
    )


SIDES = st.sampled_from([None, -1, 0, 1])


@given(SIDES, SIDES)
def test_two_orders_make_the_verdict_that_a_scheduler_makes_of_them(forward, backward):
    def call(canonical, preferred):
        status = ReadingStatus.OK if preferred is not None else ReadingStatus.REFUSED
        return replace(make_call(make_question(), JUDGE), canonical=canonical, reading=Reading(status=status, preferred=preferred))

    expected = combine(call(True, forward), call(False, backward), judge=JUDGE, margin=2.0)
    found = spoken(said_by((7, True, forward), (7, False, backward)))
    told = verdicts(found)
    if expected is None:
        assert not len(told.keys)
        return
    assert told.sides.tolist() == [{"a": 1, "b": -1}.get(expected.choice, 0)]
    assert found.contradict.tolist() == [expected.choice == "inconsistent"]
    agree = orders_agree(found, 0)
    assert (agree.compared, agree.agreed) == ((1, float(expected.swapped_agree)) if expected.swapped_agree is not None else (0, 0.0))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.1, 0.25, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), max_size=30))
def test_columns_are_tallied_as_votes_are(rows):
    votes = [agreement.Vote(prompt=bytes([prompt]), propensity=propensity, agree=agree) for prompt, propensity, agree in rows]
    expected = agreement.tally(votes)
    columns = [np.array(column) for column in zip(*rows, strict=True)] or [NOBODY, np.empty(0), np.empty(0)]
    found = tally(columns[0].astype(np.uint64), 1.0 / columns[1], columns[2])
    for name in ("asked", "compared", "prompts", "weight", "agreed", "weight_squared", "weight_agreed", "agreed_squared"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))


def test_of_several_samples_the_first_that_was_understood_counts_and_of_several_judges_the_one_that_answered_more():
    said = said_by(
        (1, True, None),
        (1, True, 1, {"sample": 1}),
        (1, True, -1, {"sample": 2}),
        (1, False, -1, {"judge": 1}),
        (1, True, -1, {"judge": 1}),
    )
    assert verdicts(spoken(said)).sides.tolist() == [0]  # judge 1 contradicts itself, but it answered in both orders
    assert verdicts(spoken(said)).keys.tolist() == [1]
    assert verdicts(spoken(said_by((1, True, None), (1, True, 1, {"sample": 1})))).sides.tolist() == [1]


def test_position_bias_takes_the_replies_of_a_prompt_for_one_observation():
    apart = said_by(*((pair, True, 1) for pair in range(20)))
    together = said_by(*((pair, True, 1, {"prompt": 5}) for pair in range(20)))
    assert first_preferred(apart, 0).prompts == 20
    assert first_preferred(together, 0).prompts == 1
    narrow, wide = (agreement.interval(first_preferred(said, 0)) for said in (apart, together))
    assert wide[0] < narrow[0] < 1.0


# Lift


def test_the_interval_of_a_difference_is_newcombes():
    """Newcombe 1998, table II, method 10, (a): 56/70 less 48/80 is 0.2, from 0.0524 to 0.3339."""
    first, second = (Share(value=p, low=low, high=high, of=n) for p, n in ((0.8, 70), (0.6, 80)) for low, high in [_wilson(p, n)])
    assert difference(first, second) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def wilson(hits, of):
    low, high = agreement.interval(agreement_of(hits, of))
    return Share(value=hits / of, low=low, high=high, of=of)


def agreement_of(hits, of):
    rows = np.array([1.0] * hits + [0.0] * (of - hits))
    return tally(np.arange(of, dtype=np.uint64), np.ones(of), rows)


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_ratio_lies_in_its_interval_which_leaves_out_one_where_the_difference_leaves_out_zero(hits, others):
    first, second = wilson(hits, 60), wilson(others, 60)
    value, low, high = ratio_of(first, second)
    assert low <= value <= high
    change = difference(first, second)
    if change[1] > 0.02:
        assert low > 1
    if change[2] < -0.02:
        assert high < 1


def test_against_random_the_routed_part_counts_among_what_random_would_find():
    routed, audited = wilson(50, 100), wilson(10, 100)
    assert ratio_to_random(routed, audited, 0.25)[0] == pytest.approx(0.5 / (0.25 * 0.5 + 0.75 * 0.1))
    assert ratio_to_random(routed, audited, 1.0) == pytest.approx((1.0, 1.0, 1.0))
    assert ratio_to_random(wilson(5, 10), replace(wilson(0, 10), low=0.0), 0.5)[2] == 2.0


def comparison(routed, audited, changed=0):
    of = routed.compared + audited.compared
    return Comparison(judged=of, compared=of, changed=changed, routed=routed, audited=audited, missing=NOBODY)


def agreed(mistakes_, of):
    return agreement_of(of - mistakes_, of)


@pytest.mark.parametrize(
    ("routed", "audited", "verdict"),
    [
        (agreed(60, 120), agreed(10, 100), r"^asking where the router asks finds 1\.\d times as many .* \(95 %: 1\.\d to 1\.\d\)$"),
        (agreed(10, 100), agreed(60, 120), "^no: asking at random would find more"),
        (agreed(60, 120), agreed(3, 14), r"^cannot be told yet: 14 audited pairs, \d+ would do$"),
        (agreed(200, 400), agreed(9, 25), r"^cannot be told yet: .*; 25 audited pairs, \d+ would do$"),
        (agreed(40, 100), agreed(8, 25), r"^no difference seen: .* which is -1\d\.\d to \+2\d\.\d points more \(95 %\)$"),
        (
            agreed(200, 1000),
            agreed(200, 1000),
            r"^no difference seen: .*20.0% of routed and 20.0% of audited pairs, which is -3\.5 to \+3\.5 points",
        ),
        (agreed(60, 120), Agreement(), r"^cannot be told: nothing was drawn at random; set \[routing\] audit_fraction"),
        (agreed(60, 120), Agreement(asked=3), "^cannot be told yet: 0 audited pairs, 20 would do$"),
        (Agreement(), Agreement(), "^cannot be told: no pair has both a scorer's belief and a judge's preference$"),
    ],
)
def test_the_verdict_says_in_words_what_the_audit_shows(routed, audited, verdict):
    import re

    assert re.search(verdict, lift(comparison(routed, audited)).verdict)


def test_changes_per_hundred_are_the_same_with_an_audit_and_without():
    routed = tally(np.arange(4, dtype=np.uint64), np.ones(4), np.array([1.0, 0.5, 0.0, 1.0]))  # of one the scorer is undecided
    with_audit, without = (lift(comparison(routed, audited, changed=1)) for audited in (agreed(10, 100), Agreement()))
    assert with_audit.per_hundred == without.per_hundred == 37.5
    assert without.per_hundred_at_random is None
    assert lift(comparison(Agreement(), Agreement())).per_hundred is None


def test_what_would_do_would_do():
    routed = mistakes(agreed(60, 120))
    needed = audits_needed(routed, 0.3)
    assert difference(routed, wilson(round(0.3 * needed), needed))[1] > -0.01
    assert difference(routed, wilson(round(0.3 * needed / 2), needed // 2))[1] < 0
    assert audits_needed(routed, 0.5) is None


# Pace and answers

STEP = StepFigures(
    step=0,
    ended_at=0.0,
    seconds=1.0,
    pairs=100,
    asked=10,
    audits=1,
    threshold=0.3,
    sources={"scorer": 90, "judge": 10},
    statuses={"ok": 100},
    spent=Cost(requests=20, tokens=2000, usd=0.5),
    prompt_tokens=1500,
    completion_tokens=500,
    agreement=1.0,
    waited_s={},
    remaining={},
    uncertainty=None,
    acquisition=None,
)
FELT = Pressure(max_in_flight=64, in_flight=16, rate_limited=12)
STEPS = [replace(STEP, step=number, ended_at=60.0 * number) for number in range(20)]
JUDGED = JudgeFigures(
    id="j",
    model="m",
    fingerprint="",
    calls=100,
    statuses={"ok": 100},
    agree=Share(value=0.9, low=0.8, high=0.95, of=50),
    first=Share(value=0.5, low=0.4, high=0.6, of=100),
    latency_s={},
    spent=Cost(),
)


def an_end(number, step, spent, left):
    empty = dict.fromkeys(("pairs", "calls", "prompt_tokens", "completion_tokens", "seconds", "created_at"), 0)
    costs = {"spent_requests": spent, "spent_tokens": 0, "spent_usd": spent / 10}
    words = {"threshold": None, "agreement": None, "sources": {}, "statuses": {}, "latency_s": {}, "pressure": {}}
    return StepRow(id=number, step=step, remaining={"requests": left, "tokens": None}, **empty, **costs, **words)


def ends_of(*spent_by_step, stock=100):
    """Ends of steps that were routed in this order: what each spent, and what was left then."""
    ends, left = {}, stock
    for number, (step, spent) in enumerate(spent_by_step, start=1):
        left -= spent
        ends.setdefault(step, []).append(an_end(number, step, spent, left))
    return ends


@pytest.mark.parametrize(
    ("routed", "left"),
    [
        ([(0, 30), (1, 20), (2, 10)], [70, 50, 40]),
        ([(0, 30), (1, 20), (2, 10), (0, 0), (1, 0), (2, 0)], [70, 50, 40]),
        ([(0, 30), (1, 20), (2, 10), (0, 5), (2, 1)], [65, 45, 34]),
        ([(0, 30), (0, 5), (2, 10), (1, 20)], [65, 45, 35]),
    ],
    ids=["in order", "again from what is stored", "again with something to ask", "one overtaken by the next"],
)
def test_a_budget_burns_down_from_step_to_step_however_often_they_are_routed(routed, left):
    assert left_after(ends_of(*routed)) == {step: {"requests": value} for step, value in enumerate(left)}


def test_a_budget_that_grew_meanwhile_counts_as_it_is_now():
    again = {step: [*rows, an_end(rows[0].id + 2, step, 0, 1050)] for step, rows in ends_of((0, 30), (1, 20)).items()}
    assert left_after(again) == {0: {"requests": 1070}, 1: {"requests": 1050}}


def test_the_forecast_names_what_is_spent_first():
    ahead = forecast(STEPS, Stock(requests=1000, usd=12.0), Cost(requests=400, usd=10.0), steps_wanted=30)
    assert (ahead.kind, ahead.steps_left, ahead.seconds_left, ahead.steps_wanted) == ("usd", 4.0, 240.0, 30)
    assert forecast(STEPS, Stock(), Cost(), None) is None
    assert forecast([], Stock(requests=5), Cost(), None) is None


def ended(*moments, seconds=10.0):
    return [replace(STEP, step=number, ended_at=moment, seconds=seconds) for number, moment in enumerate(moments)]


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        (ended(10, 20, 30, 40, 50), 10.0),
        (ended(10, 20, 30, 7240, 7250), 10.0),
        (ended(10, 60, 110, 7360, 7410), 50.0),
        (ended(10, 60, 7310), 50.0),
        (ended(10, 610, 1210, 2310), pytest.approx(2300 / 3)),
        (ended(10, 50), 40.0),
        (ended(10, 7250), None),
        (ended(10), None),
        (ended(10, 15, 20, 25), 5.0),
    ],
    ids=[
        "one step after the other",
        "interrupted for two hours",
        "interrupted while a trainer works between two steps",
        "interrupted before the last of three steps",
        "a step that took twice as long is no pause",
        "two steps",
        "two steps with a pause between them",
        "one step",
        "two steps at a time",
    ],
)
def test_a_pause_of_a_run_is_no_working_time(steps, seconds):
    assert seconds_a_step(steps) == seconds


def test_a_step_that_overtook_another_one_is_no_pause():
    assert seconds_a_step([replace(step, step=-step.step) for step in ended(10, 20, 30, 40)]) == 10.0


def test_what_a_step_has_recorded_as_left_counts_more_than_the_budget_that_the_run_began_with():
    steps = [*STEPS, replace(STEP, step=20, ended_at=1200.0, remaining={"requests": 200})]
    assert forecast(steps, Stock(requests=400), Cost(requests=400), None).steps_left == 10.0


@pytest.mark.parametrize(
    ("steps", "judge", "mood", "said"),
    [
        (STEPS, JUDGED, "good", "100.0% of 100 replies are understood, both orders agree on 90% of 50 pairs."),
        ([], replace(JUDGED, calls=None, agree=None, first=None), "unsure", "Nothing has been asked yet"),
        (
            [replace(STEP, statuses={"ok": 97, "unreachable": 3})],
            JUDGED,
            "bad",
            "3 of 10 asked pairs failed in the last step (unreachable 3).",
        ),
        ([replace(STEP, statuses={"ok": 98, "deadline": 2})], JUDGED, "unsure", "2 of 10 asked pairs came too late"),
        (STEPS, replace(JUDGED, statuses={"ok": 90, "refused": 10}), "unsure", "j: 10% of its replies hold no verdict (refused 10)."),
        (STEPS, replace(JUDGED, statuses={"ok": 60, "unparseable": 40}), "bad", "40% of its replies hold no verdict"),
        (STEPS, replace(JUDGED, agree=Share(value=0.5, low=0.4, high=0.54, of=50)), "bad", "its two orders agree on only 50%"),
        (STEPS, replace(JUDGED, first=Share(value=0.7, low=0.65, high=0.75, of=99)), "unsure", "prefers what is shown first in 70%"),
        (STEPS, replace(JUDGED, first=Share(value=0.1, low=0.05, high=0.15, of=99)), "bad", "prefers what is shown second in 90%"),
        (STEPS, replace(JUDGED, agree=Share(value=0.2, low=0.0, high=0.5, of=5)), "good", "replies are understood"),
        (
            [replace(STEP, seconds=100.0, pressure={"j": replace(FELT, lowered_s=30.0)})],
            JUDGED,
            "unsure",
            "j does not bear what is configured: turned away 12 requests with 429; concurrency was lowered, to 16 of 64 at the least, ",
        ),
        (
            [replace(STEP, seconds=100.0, pressure={"j": replace(FELT, lowered_s=10.0)})],
            replace(JUDGED, strain="turned away 12 requests with 429"),
            "good",
            "both orders agree on 90% of 50 pairs. j: turned away 12 requests with 429.",
        ),
    ],
)
def test_whether_judging_is_healthy_is_the_worst_of_what_there_is(steps, judge, mood, said):
    answer = healthy(steps, [judge])
    assert answer.mood == mood
    assert said in answer.text


@pytest.mark.parametrize(
    ("ahead", "mood", "said"),
    [
        (None, "good", "40 of 100 calls, 0.50 USD."),
        (Forecast(kind="requests", steps_left=9.5, seconds_left=7200.0), "good", "the calls last for 9 more steps (about 2.0 h)."),
        (
            Forecast(kind="usd", steps_left=8.0, seconds_left=None, steps_wanted=10),
            "unsure",
            "dollars last for 8 more steps, and 10 are wanted.",
        ),
        (
            Forecast(kind="tokens", steps_left=3.0, seconds_left=None, steps_wanted=10),
            "bad",
            "tokens last for 3 more steps, and 10 are wanted",
        ),
        (Forecast(kind="requests", steps_left=0.0, seconds_left=0.0), "bad", "; the calls are spent."),
        (Forecast(kind="requests", steps_left=1.0, seconds_left=0.5, steps_wanted=1), "good", "for 1 more step, and 1 is wanted"),
        (Forecast(kind="requests", steps_left=0.2, seconds_left=0.5, steps_wanted=0), "good", "USD; all steps are done."),
        (
            Forecast(kind="requests", steps_left=3.5, seconds_left=9.0, steps_wanted=0),
            "good",
            "; all steps are done, with calls left for 3 more steps.",
        ),
    ],
)
def test_the_cost_is_good_as_long_as_the_budget_lasts(ahead, mood, said):
    answer = cost(Cost(requests=40, usd=0.5), Cost(), Stock(requests=100), ahead, calls_per_change=None)
    assert answer.mood == mood
    assert said in answer.text


def test_judging_helps_only_where_that_is_beyond_chance():
    def of(routed, audited):
        found = lift(comparison(routed, audited, changed=7))
        return helps(found, changed=7, compared=9).mood

    assert of(agreed(60, 120), agreed(10, 100)) == "good"
    assert of(agreed(10, 100), agreed(60, 120)) == "bad"
    assert of(agreed(20, 100), agreed(20, 100)) == "unsure"
    assert of(agreed(60, 120), Agreement()) == "unsure"
    assert helps(Lift(), changed=None, compared=None).mood == "unsure"


# Reading


@pytest.mark.parametrize(
    ("ends", "together"),
    [
        ([{"scorer": 8, "judge": 2}, {"scorer": 8, "store": 2}], {"scorer": 8, "judge": 2}),
        ([{"scorer": 8, "judge": 2}] + 2 * [{"scorer": 8, "store": 2}], {"scorer": 8, "judge": 2}),
        ([{"judge": 3, "fallback": 7}, {"store": 3, "judge": 7}], {"judge": 10}),
        ([{"judge": 3, "store": 1, "fallback": 6}, {"store": 5, "judge": 5}], {"judge": 8, "store": 2}),
        ([{"judge": 9, "scorer": 1}, {"store": 4, "scorer": 6}], {"judge": 4, "scorer": 6}),
        ([{"store": 2, "scorer": 8}], {"store": 2, "scorer": 8}),
    ],
)
def test_what_a_step_has_paid_for_stays_the_judges_when_it_is_routed_again(ends, together):
    rows = [an_end(number, 0, 0, 0)._replace(sources=sources) for number, sources in enumerate(ends)]
    assert reading.merged(rows).sources == together


@given(st.dictionaries(st.integers(0, 40), st.integers(1, 50), max_size=15))
def test_spans_cover_every_step_once_in_order_and_hold_about_a_page(steps):
    found = spans(steps, page=20)
    whole = [step for span in found if span.low == b"" for step in range(span.first, span.last + 1)]
    assert whole == sorted(steps)
    for span in found:
        if span.first != span.last:
            assert sum(steps[step] for step in range(span.first, span.last + 1)) <= 20


def test_a_step_that_is_larger_than_a_page_is_read_in_parts_that_meet():
    assert spans({3: 50}, page=20) == [
        Span(3, 3, b"", bytes.fromhex("5555555555555555")),
        Span(3, 3, bytes.fromhex("5555555555555555"), bytes.fromhex("aaaaaaaaaaaaaaaa")),
        Span(3, 3, bytes.fromhex("aaaaaaaaaaaaaaaa"), None),
    ]


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=60))
def test_quantiles_are_values_with_at_least_their_share_below(values):
    known = sorted(value for value in values if not math.isnan(value))
    found = spread(np.array(values))
    if not known:
        assert found is None
        return
    assert found.of == len(known)
    for share, value in zip((0.05, 0.25, 0.5, 0.75, 0.95), found.quantiles, strict=True):
        assert value in known
        assert sum(each <= value for each in known) >= share * len(known) - 1e-9
        assert sum(each < value for each in known) <= share * len(known) + 1e-9


def test_the_backlog_of_a_minute_is_what_was_begun_and_has_not_ended():
    sums = JudgeSums(requests=Counter({10: 3}), tokens=Counter({10: 99}), begun=Counter({10: 3, 12: 1}), ended=Counter({11: 1, 12: 2}))
    told = [(minute.start, minute.requests, minute.tokens, minute.backlog) for minute in minutes(sums, waiting=[725.0])]
    assert told == [(600.0, 3, 99, 3), (660.0, 0, 0, 2), (720.0, 0, 0, 2)]


RUN = Standing(
    run=RunRow(1, "one", {}, Cost(requests=10), Cost(), 0.0),
    steps=0,
    last_step=None,
    step_seconds=None,
    active_at=0.0,
    planned=None,
    unended=None,
)


def figures(**changes):
    return replace(compose(RUN, {}, {}, {}, None, complete=True, now=0.0), **changes)


def test_two_runs_differ_beyond_noise_where_the_interval_says_so():
    few, many = (figures(judges=(replace(JUDGED, agree=wilson(hits, 100)),), pairs=hits) for hits in (50, 90))
    told = {each.name: each for each in compare(few, many)}
    assert told["j: orders agree"].beyond_noise
    assert told["j: orders agree"].change == pytest.approx(0.4)
    assert not told["j: first preferred"].beyond_noise
    assert (told["pairs"].change, told["pairs"].beyond_noise) == (40, None)
    assert (told["changed decisions"].first, told["changed decisions"].change) == (None, None)
    assert told["mistakes among routed"].interval is None


def judge_named(name, fingerprint, hits=90):
    return replace(JUDGED, id=name, fingerprint=fingerprint, agree=wilson(hits, 100), latency_s={"p50": hits / 10})


def names_of_judges(first, second):
    found = compare(figures(judges=tuple(first)), figures(judges=tuple(second)))
    return {each.name.removesuffix(": orders agree"): (each.first, each.second) for each in found if each.name.endswith(": orders agree")}


def test_runs_with_different_judges_have_both_side_by_side():
    strong, weak = judge_named("strong", "aa"), judge_named("weak", "bb", hits=50)
    told = {each.name: each for each in compare(figures(judges=(strong,)), figures(judges=(weak,)))}
    assert (told["strong / weak: orders agree"].change, told["strong / weak: orders agree"].beyond_noise) == (pytest.approx(-0.4), True)
    assert (told["strong / weak: p50"].first, told["strong / weak: p50"].second) == (9.0, 5.0)
    assert told["strong / weak: first preferred"].interval is not None


def test_a_judge_stands_beside_itself_then_beside_one_of_its_name_and_who_has_nobody_stands_alone():
    strong, weak = judge_named("strong", "aa"), judge_named("weak", "bb")
    other = judge_named("strong", "cc" * 8, hits=80)
    assert names_of_judges([strong, weak], [weak, strong]) == {"strong": (0.9, 0.9), "weak": (0.9, 0.9)}
    assert names_of_judges([strong], [other]) == {"strong@aa / strong@cccccccc": (0.9, 0.8)}
    assert names_of_judges([strong, weak], [other, strong]) == {"strong": (0.9, 0.9), "weak / strong": (0.9, 0.8)}
    assert names_of_judges([strong, weak], [judge_named("third", "dd")]) == {
        "strong": (0.9, None),
        "weak": (0.9, None),
        "third": (None, 0.9),
    }


def test_a_judge_that_has_not_answered_in_either_run_is_not_compared():
    silent = replace(JUDGED, id="stand-in", calls=0, agree=None, first=None)
    assert names_of_judges([JUDGED, silent], [JUDGED, silent]) == {"j": (0.9, 0.9)}


def test_a_sparkline_goes_from_the_least_to_the_largest_value():
    assert sparkline([0.0, 1.0, None, 7.0]) == "▁▂ █"
    assert sparkline([3.0, 3.0]) == "▄▄"
    assert sparkline([None]) == ""
    assert len(sparkline(list(range(1000)), 40)) == 40
