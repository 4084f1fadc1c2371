"""What a routed file came to, as the table says it."""

from collections import Counter
from dataclasses import replace

import pytest

from judgeflow.cli.summary import Summary, print_summary, summary_rows
from judgeflow.routing.agreement import Vote, tally
from judgeflow.types import (
    Call,
    Cost,
    JudgeIdentity,
    Outcome,
    Pair,
    Pressure,
    Reading,
    ReadingStatus,
    Reply,
    StepResult,
    StepStatistics,
    Verdict,
)

PAIR = Pair(prompt="p", response_a="x", response_b="y", label="a")
JUDGE = JudgeIdentity(id="judge", model="m", fingerprint=b"f")
CALL = Call(
    key=b"k",
    pair_key=b"p",
    judge=b"f",
    canonical=True,
    reply=Reply(text="raw"),
    reading=Reading(status=ReadingStatus.OK, preferred=1),
    created_at=0.0,
)
JUDGED = Outcome(pair=PAIR, logit=2.0, source="judge", verdict=Verdict(choice="a", logit=2.0, judge=JUDGE, forward=CALL))
IDENTICAL = Outcome(pair=PAIR, logit=0.0, source="scorer", status="identical")
SCORED = Outcome(pair=PAIR, logit=0.3, source="scorer")


def lost(status):
    return Outcome(pair=PAIR, logit=0.0, source="fallback", status=status)


def result(*outcomes, **sums):
    statistics = StepStatistics(
        run="run",
        step=0,
        pairs=len(outcomes),
        threshold=None,
        sources=Counter(outcome.source for outcome in outcomes if outcome.status != "identical"),
        statuses={status: sum(outcome.status == status for outcome in outcomes) for status in {outcome.status for outcome in outcomes}},
        calls=0,
        spent=Cost(),
        prompt_tokens=0,
        completion_tokens=0,
        agreement=None,
        latency_s={},
        **{"remaining": {}, "seconds": 0.0} | sums,
    )
    return StepResult(outcomes=outcomes, statistics=statistics)


@pytest.fixture
def table(capsys):
    """The rows that are printed for these outcomes."""

    def table(*outcomes, orders="both"):
        summary = Summary(out="o.jsonl", orders=orders)
        summary.add(result(*outcomes))
        print_summary(summary, as_json=False)
        cells = (line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("│"))
        return {name.strip(): value.strip() for name, value in cells}

    return table


@pytest.mark.parametrize(
    ("outcomes", "decided", "identical"),
    [
        ([JUDGED, IDENTICAL, IDENTICAL], "judge 1", "2"),
        ([SCORED, SCORED, IDENTICAL], "scorer 2", "1"),
        ([IDENTICAL], "-", "1"),
        ([SCORED, SCORED, JUDGED], "scorer 2, judge 1", None),
    ],
)
def test_identical_responses_are_decided_by_nobody(table, outcomes, decided, identical):
    rows = table(*outcomes)
    assert rows["decided by"] == decided
    assert rows.get("identical, not asked") == identical


def test_identical_responses_do_not_count_as_choices_of_the_judge(table):
    assert table(JUDGED, IDENTICAL)["accuracy, both orders combined"] == "1.000 of 1"


def test_identical_responses_neither_flatter_nor_hurt_an_accuracy(table):
    rows = table(JUDGED, IDENTICAL, IDENTICAL, SCORED)
    assert rows["accuracy of the final logit"] == "1.000 of 2"
    wrong = replace(SCORED, logit=-0.3)
    assert table(wrong, IDENTICAL)["accuracy of the final logit"] == "0.000 of 1"
    assert "accuracy of the final logit" not in table(IDENTICAL)


def test_identical_responses_are_not_counted_as_not_ok(table):
    assert "not ok" not in table(JUDGED, IDENTICAL)
    assert table(JUDGED, IDENTICAL, lost("budget"))["not ok"] == "budget 1"


@pytest.mark.parametrize("orders", ["first", "random"])
def test_a_judge_asked_in_one_order_has_no_accuracy_of_both_orders(table, orders):
    assert table(JUDGED)["accuracy, both orders combined"] == "1.000 of 1"
    rows = table(JUDGED, orders=orders)
    assert "accuracy, both orders combined" not in rows
    assert rows["accuracy, the orders asked"] == "1.000 of 1"


def test_what_the_judge_failed_is_told_apart_from_what_the_user_limited():
    summary = Summary(out="o.jsonl")
    summary.add(result(JUDGED, lost("overloaded"), lost("overloaded"), lost("reply_lost"), lost("budget"), lost("refused")))
    assert summary.unasked == {"overloaded": 2, "reply_lost": 1}
    assert summary.decided == 1


def agreeing(number, of, propensity):
    """The tally of `of` pairs, each of its own prompt, of which `number` agree."""
    return tally([Vote(prompt=bytes([n]), propensity=propensity, agree=float(n < number)) for n in range(of)])


def test_an_audit_of_twenty_pairs_is_told_beside_the_routed_ones():
    summary = Summary(out="o.jsonl")
    step = result(SCORED, audited=agreeing(8, 10, 0.05), routed=agreeing(29, 50, 1.0))
    summary.add(step)
    assert "audit" not in dict(summary_rows(summary))
    summary.add(step)
    told = "the scorer agrees with the judge on 80% (58%-92%) of audited and 58% (48%-67%) of routed pairs"
    assert dict(summary_rows(summary))["audit"] == told


def test_the_summary_as_json_has_both_slices_and_the_judged_share_by_length():
    summary = Summary(out="o.jsonl")
    short, long = (Pair(prompt="p", response_a="x" * n, response_b="y") for n in (3, 30))
    summary.add(result(*[replace(SCORED, pair=short)] * 5, *[replace(JUDGED, pair=long)] * 5, audited=agreeing(3, 4, 0.1)))
    record = summary.as_record()
    assert record["judged_by_length_decile"] == [0.0] * 5 + [1.0] * 5
    assert record["audit"]["audited"] == {
        "asked": 4,
        "compared": 4,
        "agreement": pytest.approx(0.75),
        "low": pytest.approx(0.30, abs=0.05),
        "high": pytest.approx(0.95, abs=0.02),
    }
    assert record["audit"]["routed"] == {"asked": 0, "compared": 0, "agreement": None, "low": None, "high": None}


def test_what_a_judge_turned_away_is_told_with_what_came_of_it():
    summary = Summary(out="o.jsonl")
    summary.add(result(JUDGED))
    assert "turned away" not in dict(summary_rows(summary))
    felt = Pressure(max_in_flight=64, in_flight=16, rate_limited=12, lowered_s=90.0)
    summary.add(result(JUDGED, seconds=100.0, pressure={"judge": felt}))
    summary.add(result(JUDGED, seconds=100.0, pressure={"judge": replace(felt, lowered_s=15.0)}))
    told = "24 requests with 429; concurrency was lowered, to 16 of 64 at the least, for 1 min 45 s of 3 min 20 s"
    assert dict(summary_rows(summary))["turned away"] == told
    assert summary.as_record()["pressure"]["judge"]["rate_limited"] == 24


def test_of_several_judges_each_is_named_with_what_it_turned_away():
    summary = Summary(out="o.jsonl")
    felt = {name: Pressure(max_in_flight=8, in_flight=8, busy=1) for name in ("judge", "other")}
    summary.add(result(JUDGED, pressure=felt))
    assert dict(summary_rows(summary))["turned away"] == "judge: 1 request with 503 or 529\nother: 1 request with 503 or 529"


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"requests": 1, "tokens": 123456.0, "usd": None}, "1 request, 123,456 tokens"),
        ({"usd": 1.2345678901}, "1.2346 USD"),
        ({"requests": 0}, "0 requests"),
    ],
)
def test_what_is_left_of_the_budget_has_as_many_digits_as_somebody_reads(left, said):
    summary = Summary(out="o.jsonl")
    summary.add(result(JUDGED, remaining=left))
    assert dict(summary_rows(summary))["budget left"] == said


def test_where_there_are_several_judges_each_has_its_pairs_and_its_bill():
    summary = Summary(out="o.jsonl")
    other = replace(JUDGED, source="store", verdict=replace(JUDGED.verdict, judge=replace(JUDGE, id="other")))
    summary.add(result(JUDGED, JUDGED, judges={"judge": Cost(requests=4, tokens=90, usd=0.5)}))
    assert "of each judge" not in dict(summary_rows(summary))
    summary.add(result(JUDGED, other, judges={"judge": Cost(requests=2, tokens=10, usd=0.25)}))
    assert dict(summary_rows(summary))["of each judge"] == "judge: 3 pairs, 6 calls, 0.7500 USD; other: 1 pair, 0 calls"
    assert summary.as_record()["judges"]["judge"] == {"pairs": 3, "calls": 6, "tokens": 100, "usd": 0.75}
