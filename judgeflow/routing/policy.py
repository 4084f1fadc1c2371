"""The acquisition of a pair: how much a policy wants to ask about it.  Larger means "ask"."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from judgeflow.config import PolicyName
from judgeflow.types import JudgeIdentity, Preference, sigmoid

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


def own_judge(seed: int, pair_key: bytes, judges: Sequence[JudgeIdentity], weights: Sequence[float]) -> int:
    """Return the index of the judge that a pair belongs to: with probability weight / sum of weights, and the same whenever it is drawn.

    Each judge's draw depends on the pair, the seed and the judge alone, so a judge that comes or goes moves no pair between the others.
    (Weighted rendezvous hashing: Schindelhauer and Schomaker, 2005.)
    """
    prints = [judge.fingerprint for judge in judges]
    # One judge may be reached through two accounts: the second of them draws for itself.
    names = [pair_key + name + prints[:index].count(name).to_bytes(4, "little") for index, name in enumerate(prints)]
    draws = [uniform(seed, hashlib.blake2b(name, digest_size=32, person=b"jf-judge-1").digest()) for name in names]
    return min(range(len(judges)), key=lambda index: -math.log1p(-draws[index]) / weights[index])


def uniform(seed: int, pair_key: bytes) -> float:
    """Return a number in [0, 1) that depends on the seed and the pair alone."""
    mixed = hashlib.blake2b(pair_key, digest_size=8, salt=seed.to_bytes(8, "little"), person=b"jf-random-1").digest()
    return (int.from_bytes(mixed, "little") >> 11) * 2.0**-53
