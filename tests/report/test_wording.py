"""Numbers as people read them."""

import pytest
from made_figures import a_pair, a_reply

from judgeflow.plurals import plural
from judgeflow.report import wording


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, wording.UNKNOWN),
        (0.0, "0.0 s"),
        (0.25, "250 ms"),
        (3.04, "3.0 s"),
        (59.96, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (9000, "2 h 30 min"),
        (3599.9, "1 h"),
        (86400 * 3 + 7200, "3 d 2 h"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds, said):
    assert wording.duration(seconds) == said


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (None, wording.UNKNOWN),
        (0.0, "$0"),
        (0.0011, "$0.0011"),
        (0.08, "$0.080"),
        (0.5, "$0.50"),
        (11.754, "$11.75"),
        (2500.4, "$2,500"),
        (2e-6, "$2.0e-06"),
    ],
)
def test_small_sums_keep_their_digits(usd, said):
    assert wording.money(usd) == said


@pytest.mark.parametrize(
    ("share", "said"), [(None, wording.UNKNOWN), (0.0, "0%"), (0.004, "0.4%"), (0.0996, "10%"), (0.5, "50%"), (1.0, "100%")]
)
def test_small_shares_keep_a_digit(share, said):
    assert wording.percent(share) == said


@pytest.mark.parametrize(
    ("value", "said"), [(None, wording.UNKNOWN), (0.12345, "0.123"), (12.0, "12"), (123.4, "123"), (45678.9, "45,679"), (-0.5, "-0.5")]
)
def test_a_number_has_three_digits_or_all_that_stand_before_the_point(value, said):
    assert wording.number(value) == said


def test_replies_are_told_with_their_judges_where_there_are_several():
    ours = a_reply(judge="ours", latency_s=1.0), a_reply("ba", judge="ours", latency_s=2.0)
    theirs = a_reply("ba", judge="theirs", latency_s=30.0)
    assert wording.by_judge(a_pair(replies=ours), lambda reply: f"{reply.latency_s:g}") == "1, 2"
    assert wording.by_judge(a_pair(replies=(*ours, theirs)), lambda reply: f"{reply.latency_s:g}") == "ours: 1, 2; theirs: 30"
    assert wording.by_judge(a_pair(replies=()), lambda reply: reply.shown) == ""


def test_one_of_a_kind_is_singular():
    assert (plural(1, "reply", "replies"), plural(1200, "step")) == ("1 reply", "1,200 steps")
