"""What a step could spend if it had not begun to spend it: plain arithmetic for asking before everything is scored."""

from __future__ import annotations

from judgeflow.types import Cost, Stock


def given_back(stock: Stock, taken: Cost) -> Stock:
    """Return `stock` as it was before `taken`."""
    return Stock(
        requests=None if stock.requests is None else stock.requests + taken.requests,
        tokens=None if stock.tokens is None else stock.tokens + taken.tokens,
        usd=None if stock.usd is None else stock.usd + taken.usd,
    )


def least(one: Stock, other: Stock) -> Stock:
    """Return the stricter limit of both, component by component."""
    return Stock(
        requests=min((bound for bound in (one.requests, other.requests) if bound is not None), default=None),
        tokens=min((bound for bound in (one.tokens, other.tokens) if bound is not None), default=None),
        usd=min((bound for bound in (one.usd, other.usd) if bound is not None), default=None),
    )
