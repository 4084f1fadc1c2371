"""Two directed readings make one verdict: position-swap debiasing."""

from __future__ import annotations

from judgeflow.types import Call, Choice, JudgeIdentity, Reading, Verdict


def combine(
    forward: Call | None,
    backward: Call | None,
    *,
    judge: JudgeIdentity,
    margin: float,
    graded: bool = False,
    single: bool = False,
) -> Verdict | None:
    """Return the verdict of the call that showed response_a first and the one that showed it second; None if neither speaks.

    Both orders prefer the same response: its side, +-margin.  One prefers, one ties: the preferred one, half the margin.  Both tie:
    0.  They contradict: "inconsistent", 0.  Only one order speaks: half of what it says, or all of it where only one was asked for
    (`single`).  With `graded` a slight preference counts half.  (Method: Xu et al. 2025, extended to both orders.)
    """
    spoken = {
        side: _value(call.reading, margin, graded=graded)
        for side, call in ((1, forward), (-1, backward))
        if call is not None and call.reading.preferred is not None
    }
    if not spoken:
        return None
    values = [side * value for side, value in spoken.items()]
    contradict = len(values) == 2 and values[0] * values[1] < 0
    orders = len(values) if single else 2
    logit = 0.0 if contradict else sum(values) / orders
    choice: Choice = "inconsistent" if contradict else _side(logit)
    return Verdict(
        choice=choice,
        logit=logit,
        judge=judge,
        forward=forward if 1 in spoken else None,
        backward=backward if -1 in spoken else None,
    )


def _value(reading: Reading, margin: float, *, graded: bool) -> float:
    weight = 0.5 if graded and not reading.strong else 1.0
    return margin * weight * (reading.preferred or 0)


def _side(logit: float) -> Choice:
    if logit == 0:
        return "tie"
    return "a" if logit > 0 else "b"
