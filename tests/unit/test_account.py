"""The windows of an account, against a model that counts one by one."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from judgeflow.config import LimitsConfig
from judgeflow.routing.account import Account
from judgeflow.types import Dispatch, RateHeaders, Standing, Usage

PERIOD = 60.0
LONGEST = 100


class Windows(RuleBasedStateMachine):
    """Questions are admitted, leave late or never, are sent again, answered, lost and withdrawn, while time passes in any steps.

    The model keeps (ticket, tokens) of everything admitted, and knows nothing of logs, stamps and sums.
    """

    @initialize(
        requests=st.none() | st.integers(1, 4),
        tokens=st.none() | st.integers(300, 1200),
        charge=st.sampled_from(["reserved", "actual"]),
    )
    def begin(self, requests, tokens, charge):
        limits = LimitsConfig(requests_per_minute=requests, tokens_per_minute=tokens, charge=charge, margin_s=0.0, window_s=PERIOD)
        self.account, self.requests, self.tokens, self.reserved = Account(limits, LONGEST), requests, tokens, charge == "reserved"
        self.now, self.under_way, self.counted = 0.0, [], []

    def used(self) -> tuple[int, int]:
        """Requests and tokens of the window that ends now."""
        inside = [item for item in self.counted if item[0].sent_at == math.inf or item[1] or item[0].sent_at + PERIOD > self.now]
        return len(inside), sum(item[2] for item in inside)

    def note(self, ticket, *, held=None, tokens=None):
        for item in self.counted:
            if item[0] is ticket:
                item[1] = item[1] if held is None else held
                item[2] = item[2] if tokens is None else tokens

    @rule(seconds=st.sampled_from([0.0, 0.5, 7.0, 30.0, 59.5, 60.0, 200.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(worst=st.integers(LONGEST + 1, 300))
    def ask(self, worst):
        wait = self.account.wait_s(self.now, worst)
        weight = self.account._charges.expect(worst)
        requests, tokens = self.used()
        fits = (self.requests is None or requests < self.requests) and (self.tokens is None or tokens + weight.tokens <= self.tokens)
        if wait > 0:
            assert not fits or self.account._variance + weight.variance > 0  # else only what is kept free may hold it back
            assert wait <= PERIOD
        else:
            assert fits
            ticket = self.account.admit(self.now, worst)
            self.under_way.append(ticket)
            self.counted.append([ticket, True, weight.tokens])

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def leaves(self, data):
        self.send(data.draw(st.sampled_from(self.under_way)))

    def send(self, ticket):
        """It leaves, perhaps again, unless it left so long ago that its place may be another's."""
        if self.is_counted(ticket):
            self.account.sent(ticket, self.now)
            self.note(ticket, held=False)

    def is_counted(self, ticket):
        return ticket.request.at == math.inf or ticket.sent_at + PERIOD > self.now

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def is_held_up(self, data):
        ticket = data.draw(st.sampled_from(self.under_way))
        if self.is_counted(ticket):
            self.account.hold(ticket)
            self.note(ticket, held=True)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), prompt=st.integers(1, 250), completion=st.integers(0, LONGEST))
    def is_answered(self, data, prompt, completion):
        ticket = self.end(data)
        self.account.settle(ticket, Usage(prompt=prompt, completion=completion))
        self.note(ticket, tokens=prompt + (LONGEST if self.reserved else completion))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def is_turned_away(self, data):
        ticket = self.end(data)
        self.account.settle(ticket, Usage())
        self.note(ticket, tokens=0)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def is_lost(self, data):
        ticket = self.end(data)
        self.account.lost(ticket)
        self.note(ticket, tokens=ticket.expected.safe)

    @precondition(lambda self: any(ticket.sent_at == math.inf for ticket in self.under_way))
    @rule(data=st.data())
    def never_leaves(self, data):
        ticket = data.draw(st.sampled_from([ticket for ticket in self.under_way if ticket.sent_at == math.inf]))
        self.under_way.remove(ticket)
        self.account.cancel(ticket)
        self.counted = [item for item in self.counted if item[0] is not ticket]

    def end(self, data):
        """Somebody under way whose attempt ends now: by then it has left."""
        ticket = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(ticket)
        self.send(ticket)
        return ticket

    @invariant()
    def windows_hold_what_the_model_counts(self):
        if hasattr(self, "account"):
            assert (self.account._requests.used(self.now), self.account._tokens.used(self.now)) == self.used()
            assert self.requests is None or self.used()[0] <= self.requests
            assert self.account._slack == sum(ticket.expected.slack for ticket in self.under_way)


Windows.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestWindows = Windows.TestCase


# What an earlier process sent


def remembering(dispatches: list[Dispatch], wall: float = 1000.0, **limits: object) -> Account:
    account = Account(LimitsConfig(margin_s=0.0, **limits), LONGEST)
    account.remember(500.0, dispatches, wall)
    return account


def sent(at: float | None, *, requests: int = 1, tokens: int = 0, answered: bool = True) -> Dispatch:
    return Dispatch(at=at, requests=requests, tokens=tokens, answered=answered)


def test_what_an_earlier_process_sent_counts_until_it_leaves_the_window():
    account = remembering([sent(985.0), sent(950.0, requests=2), sent(900.0)], requests_per_minute=3)
    assert account.wait_s(500.0, 200) == 10.0
    account.admit(510.0, 200)
    assert account.wait_s(510.0, 200) == 0.0
    account.admit(510.0, 200)
    assert account.wait_s(510.0, 200) == 35.0


def test_what_may_be_under_way_still_counts_as_sent_now():
    assert remembering([sent(None, answered=False)], requests_per_minute=1).wait_s(500.0, 200) == 60.0


def test_a_wall_clock_that_was_set_back_makes_nobody_too_early():
    assert remembering([sent(5000.0)], wall=1000.0, requests_per_minute=1).wait_s(500.0, 200) == 60.0


@pytest.mark.parametrize(("charge", "tokens"), [("reserved", 150 + LONGEST), ("actual", 150)])
def test_tokens_of_an_earlier_process_count_for_what_they_may_have_been_charged(charge, tokens):
    account = remembering([sent(990.0, tokens=150)], tokens_per_minute=1000, charge=charge)
    assert account.wait_s(500.0, 1000 - tokens) == 0.0
    assert account.wait_s(500.0, 1001 - tokens) == 50.0


def test_a_paced_start_goes_on_where_the_earlier_process_was():
    assert remembering([sent(998.0)], requests_per_minute=6, start="paced").wait_s(500.0, 200) == 8.0


def test_who_has_sent_something_remembers_it_already():
    account = Account(LimitsConfig(requests_per_minute=2, margin_s=0.0))
    account.sent(account.admit(500.0, 1), 500.0)
    account.remember(500.0, [sent(1000.0)], 1000.0)
    assert account.wait_s(500.0, 1) == 0.0


# Others who use the account


def replied(account: Account, now: float, **standing: float) -> dict[str, float]:
    """Send one question and hear at once how the account stands."""
    ticket = account.admit(now, 1)
    account.sent(ticket, now)
    return dict(account.hear(now, RateHeaders(requests=Standing(**standing)), ticket))


def test_what_others_take_of_the_account_is_not_ours_to_send():
    account = Account(LimitsConfig(requests_per_minute=100, margin_s=0.0))
    assert replied(account, 0.0, limit=100, remaining=39) == {"requests_left_by_others": 40}
    assert account.capacity(0.0, 0.0, 0.0).requests == 39
    for _ in range(39):
        assert account.wait_s(1.0, 1) == 0.0
        account.sent(account.admit(1.0, 1), 1.0)
    assert account.wait_s(1.0, 1) == 59.0


def test_others_who_have_gone_leave_everything_to_us_again():
    account = Account(LimitsConfig(requests_per_minute=100))
    replied(account, 0.0, limit=100, remaining=1)
    assert account.capacity(1.0, 1.0, 1.0).requests < 10
    assert replied(account, 2.0, limit=100, remaining=98) == {}
    assert account.capacity(2.0, 2.0, 2.0).requests == 98


def test_a_reply_to_an_older_question_does_not_replace_what_a_younger_one_heard():
    account = Account(LimitsConfig(requests_per_minute=100))
    old = account.admit(0.0, 1)
    account.sent(old, 0.0)
    replied(account, 5.0, limit=100, remaining=48)
    assert account.hear(6.0, RateHeaders(requests=Standing(limit=100, remaining=99)), old) == {}
    assert account.capacity(6.0, 6.0, 6.0).requests == 48


@pytest.mark.parametrize("at_arrival", [True, False])
def test_our_own_questions_are_nobody_elses_whenever_the_judge_counts(at_arrival):
    """A burst, and replies that take so long that the next burst has begun: the judge tells what it counted then, or counts now."""
    account, told = Account(LimitsConfig(requests_per_minute=50, margin_s=0.0)), []
    burst = [account.admit(0.0, 1) for _ in range(50)]
    for number, ticket in enumerate(burst, start=1):
        account.sent(ticket, 0.0)
        told.append(50 - number if at_arrival else 40)
    for _ in range(10):
        account.sent(account.admit(61.0, 1), 61.0)
    for ticket, remaining in zip(burst, told, strict=True):
        assert account.hear(61.0, RateHeaders(requests=Standing(limit=50, remaining=remaining)), ticket) == {}


def test_one_who_sees_more_taken_than_a_configured_limit_is_worth_still_asks_one_question_at_a_time():
    account = Account(LimitsConfig(requests_per_minute=10, margin_s=0.0))
    assert replied(account, 0.0, limit=1000, remaining=0)["requests_left_by_others"] == 1
    assert account.wait_s(1.0, 1) == 59.0
