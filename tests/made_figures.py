"""Figures of runs that nobody made: of any length, and with texts that try to get out of a page."""

import math
from dataclasses import replace

from judgeflow.report.figures import (
    Answer,
    Forecast,
    JudgeFigures,
    Lift,
    MinuteFigures,
    PairFigures,
    RunFigures,
    Share,
    SideReply,
    Spread,
    StepFigures,
)
from judgeflow.types import Cost, Stock

START = 1_790_000_000.0
HOSTILE = (
    '</script><script>document.title="stolen"</script><img src=x onerror=\'document.title="stolen"\'>'
    "<style>body{display:none}</style>{{ 7 * 7 }} \x1b[31mred\x1b[0m nul:\x00 back:\u202etxt.exe --> ]]> &amp; &lt;b&gt; $x^2$ \ud800"
)


def share(value, of=200):
    half = 1.96 * math.sqrt(value * (1 - value) / of)
    return Share(value=value, low=max(0.0, value - half), high=min(1.0, value + half), of=of)


def a_step(number, of=40):
    """Step `number` of a run of `of` steps: an adaptive threshold settles, the uncertainty sinks, now and then the judge is away."""
    done = number / of
    uncertainty = 3.0 - 1.1 * done + 0.15 * math.sin(number / 3)
    asked = round(38 + 10 * math.sin(number / 4) * (1 - done))
    away = 9 if number % 17 == 5 else 0
    store = round(22 * done)
    return StepFigures(
        step=number,
        ended_at=START + 95.0 * (number + 1),
        seconds=61.0 + 9 * math.sin(number),
        pairs=128,
        asked=asked,
        audits=4 + number % 3,
        threshold=0.16 - 0.05 * math.exp(-number / 4),
        sources={"judge": asked - away, "store": store, "scorer": 128 - asked - store, "fallback": away},
        statuses={"ok": 128 - away - 3, "one_order": 3, **({"judge_unreachable": away - 2, "deadline": 2} if away else {})},
        spent=Cost(requests=2 * asked, tokens=2 * asked * 640, usd=2 * asked * 0.0011),
        prompt_tokens=2 * asked * 520,
        completion_tokens=2 * asked * 120,
        agreement=0.86 + 0.05 * math.sin(number / 5),
        waited_s={"p50": 1.9 + 0.3 * math.sin(number / 2), "p90": 4.4 + math.sin(number), "max": 9.5 + 5 * abs(math.sin(number * 1.7))},
        remaining={"requests": 10_000 * (1 - 0.62 * (number + 1) / of), "usd": 25 * (1 - 0.47 * (number + 1) / of)},
        uncertainty=Spread(quantiles=tuple(uncertainty * f for f in (0.55, 0.8, 1.0, 1.3, 2.1)), of=128),
        acquisition=Spread(quantiles=tuple(uncertainty * f for f in (0.004, 0.02, 0.04, 0.066, 0.15)), of=128),
    )


def a_judge(name="gpt-4.1-judge", minutes=60, scale=1.0):
    return JudgeFigures(
        id=name,
        model=f"{name}-2026-05",
        fingerprint="9f" * 32,
        calls=round(2912 * scale),
        statuses={"ok": round(2880 * scale), "truncated": round(24 * scale), "unparseable": 8},
        agree=share(0.87, 1400),
        first=share(0.56, 2700),
        latency_s={"p50": 1.9, "p90": 4.6, "max": 14.2},
        spent=Cost(requests=round(2912 * scale), tokens=round(1_863_000 * scale), usd=11.75 * scale),
        requests_per_minute=90 * scale,
        tokens_per_minute=60_000.0 * scale,
        minutes=tuple(
            MinuteFigures(
                start=START + 60.0 * number,
                requests=round(scale * (70 + 18 * math.sin(number / 3))),
                tokens=round(scale * 640 * (70 + 18 * math.sin(number / 3))),
                backlog=round(12 + 10 * math.sin(number / 7)),
            )
            for number in range(minutes)
        ),
    )


def a_reply(shown="ab", preferred="a", text="Response A answers the question.\n\nVerdict: [[A]]", **changes):
    reply = SideReply(
        shown=shown,
        judge="gpt-4.1-judge",
        text=text,
        reasoning="",
        status="ok" if preferred else "unparseable",
        preferred=preferred,
        latency_s=3.4,
        prompt_tokens=520,
        completion_tokens=120,
        usd=0.0011,
        at=START + 500,
    )
    return replace(reply, **changes)


def a_pair(key="a1" * 32, **changes):
    pair = PairFigures(
        key=key,
        step=12,
        prompt="Why is the sky blue? Explain it to a child of six in two sentences.",
        response_a="Sunlight holds all colours. Air bends the blue ones around the most, so blue comes at you from everywhere.",
        response_b="Because it mirrors the sea.",
        replies=(a_reply(), a_reply("ba", "b", "The first response is charming, and shorter.\n\nVerdict: [[A]]", latency_s=14.2)),
        logit=0.0,
        uncertainty=3.61,
        source="judge",
        status="ok",
        asked=True,
        audit=False,
    )
    return replace(pair, **changes)


CONVERSATION = (
    {"role": "system", "content": "You are a patient teacher."},
    {"role": "user", "content": "What is a prime number?"},
    {"role": "assistant", "content": "A whole number above 1 that only 1 and itself divide."},
    {"role": "user", "content": "So is 1 prime?"},
)


def a_run(length=40, **changes):
    """A run of so many steps that went well, with one judge and a budget."""
    judge = a_judge(minutes=max(1, round(length * 95 / 60)))
    run = RunFigures(
        name="helpful-ppo-7b",
        at=START + 95.0 * (length + 1),
        pace="finished",
        news="Finished: 40 steps, 2,912 paid replies and $11.75 spent.",
        complete=True,
        created_at=START,
        config={
            "run": {"name": "helpful-ppo-7b", "directory": "runs"},
            "judge": {"base_url": "https://judge.example/v1", "model": judge.model, "temperature": 0.0, "orders": "both"},
            "limits": {"requests_per_minute": 90, "tokens_per_minute": 60000},
            "budget": {"requests": 10000, "usd": 25.0, "steps": 70},
            "routing": {"policy": "error", "threshold": "adaptive", "audit_fraction": 0.05},
        },
        answers=(
            Answer(
                title="healthy",
                mood="good",
                text="Yes: 99% of replies could be read, and 87% of pairs keep their verdict when turned around.",
            ),
            Answer(title="cost", mood="unsure", text="$11.75 so far; at this pace the requests end 6 steps before the run does."),
            Answer(
                title="helps",
                mood="good",
                text="Yes: routed pairs contradict the scorer in 31% of cases, pairs drawn at random in 17%.",
            ),
        ),
        pairs=128 * length,
        asked=38 * length,
        sources={"scorer": 79 * length, "judge": 38 * length, "store": 11 * length - length // 4, "fallback": length // 4},
        statuses={"ok": 124 * length, "one_order": 3 * length, "judge_unreachable": length - length // 4, "deadline": length // 4},
        spent=Cost(requests=76 * length, tokens=76 * 640 * length, usd=76 * 0.0011 * length),
        reserved=Cost(requests=4, tokens=8000, usd=0.01),
        stock=Stock(requests=10_000, usd=25.0),
        prompt_tokens=76 * 520 * length,
        completion_tokens=76 * 120 * length,
        changed=11 * length,
        compared=38 * length,
        steps=tuple(a_step(number, length) for number in range(length)),
        judges=(judge,),
        forecast=Forecast(kind="requests", steps_left=24.5, seconds_left=24.5 * 95, steps_wanted=30),
        lift=Lift(
            routed=share(0.31, 1300), audited=share(0.17, 190), difference=(0.14, 0.08, 0.2), per_hundred=31.0, per_hundred_at_random=17.0
        ),
        slowest=(
            a_pair(),
            a_pair("a2" * 32, prompt=CONVERSATION, replies=(a_reply(latency_s=11.0), a_reply("ba", None, "I cannot decide."))),
        ),
        inconsistent=(a_pair("b1" * 32), a_pair("b2" * 32, step=3, audit=True), a_pair("b3" * 32, step=31, prompt=CONVERSATION)),
        notes=("the decisions of 10 of 50 steps are not in the database: `judgeflow db compact` lets them go",),
    )
    return replace(run, **changes)


def a_hostile_run():
    """A run in which everything that others write tries to become part of the page."""
    bad = {"judge": HOSTILE, "text": HOSTILE, "reasoning": HOSTILE, "status": HOSTILE}
    pair = a_pair(
        HOSTILE,
        prompt=({"role": HOSTILE, "content": HOSTILE}, {"role": "user", "content": "x" * 2_000_000}),
        response_a=HOSTILE,
        response_b="y" * 100_000,
        replies=(a_reply(**bad), a_reply("ba", None, **(bad | {"text": HOSTILE * 1000}))),
        source=HOSTILE,
        status=HOSTILE,
    )
    step = replace(a_step(1), sources={"judge": 1, HOSTILE: 2, "fallback": 3}, statuses={"ok": 1, HOSTILE: 3})
    return a_run(
        name=HOSTILE,
        config={HOSTILE: {"model": HOSTILE, "list": [HOSTILE]}},
        answers=tuple(Answer(title=HOSTILE, mood=mood, text=HOSTILE) for mood in ("good", "unsure", "bad")),
        sources={HOSTILE: 3},
        statuses={HOSTILE: 3},
        steps=(step,),
        judges=(replace(a_judge(HOSTILE), model=HOSTILE, fingerprint=HOSTILE, statuses={HOSTILE: 1}),),
        slowest=(pair,),
        inconsistent=(pair,),
        notes=(HOSTILE,),
    )
