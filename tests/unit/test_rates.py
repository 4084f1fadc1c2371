"""What headers say about limits, read from every form that servers write them in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.judges.rates import duration_s, read_rates, retry_after_s
from judgeflow.testing.limits import duration
from judgeflow.types import RateHeaders, Standing


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("1s", 1.0),
        ("20ms", 0.02),
        ("1h2m", 3720.0),
        ("1h0m0s", 3600.0),
        ("2m59.56s", 179.56),
        ("7.66s", 7.66),
        ("1.5ms", 0.0015),
        ("800µs", 0.0008),
        ("0s", 0.0),
        ("0", 0.0),
        ("12", 12.0),
        ("0.5", 0.5),
        (" 1s ", 1.0),
        ("1d", 86_400.0),
        ("1d1s", None),
        ("86401", None),
        ("1700000000", None),
        ("", None),
        ("-1s", None),
        ("-5", None),
        ("soon", None),
        ("1 s", None),
        ("s", None),
        ("1x", None),
        ("1s!", None),
        ("1.s", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("٣s", None),
        ("9" * 400 + "s", None),
        ("2030-01-01T00:00:00Z", None),
    ],
)
def test_durations(text, seconds):
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.floats(0.0, 86_000.0))
def test_what_a_judge_writes_is_read_as_what_it_meant(seconds):
    assert duration_s(duration(seconds)) == pytest.approx(seconds, abs=1e-3, rel=1e-4)


@given(st.text(max_size=40))
def test_whatever_a_header_holds_it_raises_nothing(text):
    seconds = duration_s(text)
    assert seconds is None or 0.0 <= seconds <= 86_400.0
    names = [f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")]
    rates = read_rates(dict.fromkeys(names, text))
    assert rates is None or rates.requests.limit != 0
    waited = retry_after_s({"retry-after": text, "retry-after-ms": text})
    assert waited is None or waited >= 0.0


def test_requests_and_tokens_are_read_apart():
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    requests = Standing(limit=500, remaining=499, reset_s=pytest.approx(0.12))
    assert read_rates(headers) == RateHeaders(requests=requests, tokens=Standing(limit=30_000, remaining=0, reset_s=360.0))


@pytest.mark.parametrize("text", ["0", "-1", "", "many", "1.5", "1e9", "9" * 19, "60, 60;w=60"])
def test_a_limit_that_makes_no_sense_is_as_good_as_none(text):
    assert read_rates({"x-ratelimit-limit-requests": text}) is None


def test_a_field_that_makes_no_sense_costs_itself_only():
    headers = {"x-ratelimit-limit-tokens": "unlimited", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2s"}
    assert read_rates(headers) == RateHeaders(tokens=Standing(remaining=0, reset_s=2.0))


def test_what_a_gateway_passes_on_fills_in_what_it_does_not_say_itself():
    headers = {
        "x-ratelimit-limit-requests": "500",
        "llm_provider-x-ratelimit-limit-requests": "90",
        "llm_provider-x-ratelimit-reset-requests": "59s",
        "llm_provider-x-ratelimit-remaining-tokens": "0",
    }
    tokens = Standing(remaining=0)
    assert read_rates(headers) == RateHeaders(requests=Standing(limit=500, reset_s=59.0), tokens=tokens)
    assert read_rates({"llm_provider-x-ratelimit-remaining-tokens": "0"}) == RateHeaders(tokens=tokens)


def test_headers_of_others_say_nothing():
    assert read_rates({"content-type": "application/json", "x-request-id": "1"}) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5", "retry-after-ms": "120"}, 0.12),
        ({"retry-after": "3", "retry-after-ms": "soon"}, 3.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "1e999"}, None),
        ({"llm_provider-retry-after-ms": "59915", "llm_provider-retry-after": "60"}, 59.915),
        ({"llm_provider-retry-after": "60"}, 60.0),
        ({"retry-after": "5", "llm_provider-retry-after-ms": "59915"}, 5.0),
        ({"retry-after": "soon", "llm_provider-retry-after": "60"}, 60.0),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_a_retry_after_date_in_the_future_is_counted_from_now():
    assert retry_after_s({"retry-after": "Fri, 01 Jan 2500 00:00:00 GMT"}) > 1e9
