"""The acquisition of a pair: how much a policy wants to ask about it.  Larger means "ask"."""

from __future__ import annotations

import hashlib

from judgeflow.config import PolicyName
from judgeflow.types import Preference, sigmoid

UNRANKED = 0.0


def acquisition(policy: PolicyName, preference: Preference | None, pair_key: bytes, seed: int) -> float | None:
    """Return q of one pair, or None where the policy needs a preference and there is none.

    `error` is min(p, 1-p) of the mean-field probability, in [0, 0.5]; `uncertainty` is u; `margin` is -|g| with g = s u, the raw
    logit; `random` is uniform in [0, 1), the same for the same seed and pair whatever the order of arrival; `always` and `never`
    rank nobody.  (Acquisitions: Xu et al. 2025; the mean-field error is the expected error of the scorer.)
    """
    if policy in {"always", "never"}:
        return UNRANKED
    if policy == "random":
        return uniform(seed, pair_key)
    if preference is None:
        return None
    if policy == "error":
        return sigmoid(-abs(preference.logit))  # min(p, 1 - p) without losing it to rounding, or its symmetry
    if policy == "margin":
        return -abs(preference.logit * (preference.uncertainty or 1.0))
    return preference.uncertainty


def uniform(seed: int, pair_key: bytes) -> float:
    """Return a number in [0, 1) that depends on the seed and the pair alone."""
    mixed = hashlib.blake2b(pair_key, digest_size=8, salt=seed.to_bytes(8, "little"), person=b"jf-random-1").digest()
    return (int.from_bytes(mixed, "little") >> 11) * 2.0**-53
