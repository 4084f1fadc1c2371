"""What calls take: as recorded where that is known, else as the what-if says, else unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from judgeflow.errors import ReplayError
from judgeflow.replay.trace import Floats, Testimony, Wholes
from judgeflow.replay.whatif import USUAL_REPLY, WhatIf


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What each of n x 2 calls takes, and at worst; `tokens_known` and `time_known` tell whether tokens and seconds mean anything.

    What was not recorded of one call is the mean of what was recorded of the others, its latency that of one of them, drawn by lot.
    A prompt's tokens stand for their own bound.  The dollars of a worst case follow from the prices behind the recorded ones, or where no
    dollars were recorded from those of the what-if.
    """

    prompt: Wholes
    completion: Wholes
    usd: Floats
    latency_s: Floats
    worst_tokens: Wholes
    worst_usd: Floats
    longest_reply: int
    tokens_known: bool
    time_known: bool


def bill(testimony: Testimony, what_if: WhatIf) -> Bill:
    """Return what the judge's calls take.  Raises `ReplayError` where a limit counts what nobody knows."""
    prompt = _filled(testimony.prompt_tokens, what_if.prompt_tokens)
    completion = _filled(testimony.completion_tokens, what_if.completion_tokens)
    tokens_known = bool((prompt > 0).all() and len(prompt))
    latency_s, time_known = _latencies(testimony, what_if)
    longest = _longest_reply(testimony.judge.parameters, what_if)
    prices = _prices(testimony, what_if)
    usd = np.where(testimony.usd > 0, testimony.usd, prompt * prices[0] + completion * prices[1])
    made = Bill(
        prompt=prompt,
        completion=completion,
        usd=usd,
        latency_s=latency_s,
        worst_tokens=prompt + longest,
        worst_usd=np.maximum(usd, prompt * prices[0] + longest * prices[1]),
        longest_reply=longest,
        tokens_known=tokens_known,
        time_known=time_known,
    )
    _require(made, what_if)
    return made


def _require(made: Bill, what_if: WhatIf) -> None:
    if not made.tokens_known and (what_if.tokens_per_minute is not None or what_if.budget_tokens is not None):
        raise ReplayError("nobody recorded what calls take in tokens, and a limit counts them; give --tokens-per-call PROMPT,COMPLETION")
    if what_if.budget_usd is not None and not made.usd.any():
        raise ReplayError(
            "nobody recorded what calls cost, and the budget is in dollars; give prices as prompt_usd_per_mtok and completion_usd_per_mtok "
            "in [judge] of --config (and --tokens-per-call, where tokens are not recorded), or a budget in requests or tokens"
        )
    if not made.time_known and what_if.step_deadline_s is not None:
        raise ReplayError("nobody recorded how long calls take, and steps have a deadline; give --latency (lognormal:34.6:0.33)")


def _filled(recorded: Wholes, given: int | None) -> Wholes:
    known = recorded[recorded > 0]
    usual = given if given is not None else round(float(known.mean())) if len(known) else 0
    return np.where(recorded > 0, recorded, usual)


def _latencies(testimony: Testimony, what_if: WhatIf) -> tuple[Floats, bool]:
    dice = np.random.default_rng(what_if.seed)
    shape, distribution = testimony.latency_s.shape, what_if.distribution
    if distribution is not None:
        luck = dice.random(shape)
        return np.array([distribution.seconds(chance) for chance in luck.ravel()]).reshape(shape), True
    known = testimony.latency_s[testimony.latency_s > 0]
    if not len(known):
        return np.zeros(shape), False
    return np.where(testimony.latency_s > 0, testimony.latency_s, dice.choice(known, shape)), True


def _longest_reply(parameters: Mapping[str, object], what_if: WhatIf) -> int:
    recorded = parameters.get("max_completion_tokens")
    return what_if.longest_reply or (recorded if isinstance(recorded, int) else USUAL_REPLY)


def _prices(testimony: Testimony, what_if: WhatIf) -> tuple[float, float]:
    """Return USD per token of prompts and of replies: by least squares over the calls that have both, else as the what-if has them."""
    if not testimony.usd.any():
        return what_if.prompt_usd_per_mtok / 1e6, what_if.completion_usd_per_mtok / 1e6
    paid = (testimony.usd > 0) & (testimony.prompt_tokens > 0)
    if not paid.any():
        return 0.0, 0.0
    tokens = np.stack([testimony.prompt_tokens[paid], testimony.completion_tokens[paid]], axis=1).astype(float)
    solved = np.linalg.lstsq(tokens, testimony.usd[paid], rcond=None)[0]
    return max(0.0, float(solved[0])), max(0.0, float(solved[1]))
