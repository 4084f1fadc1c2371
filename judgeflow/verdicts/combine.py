"""Two directed readings make one verdict: position-swap debiasing."""

from __future__ import annotations

from judgeflow.types import Call, Choice, JudgeIdentity, Verdict


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
    first, second = _says(forward, margin, graded=graded), _says(backward, margin, graded=graded)
    if first is None and second is None:
        return None
    choice: Choice
    if first is None or second is None:
        said = -second if second is not None else first or 0.0
        logit = said if single else said / 2
        choice = _side(logit)
    elif first * second > 0:  # each prefers what it showed first, or each what it showed second
        logit, choice = 0.0, "inconsistent"
    else:
        logit = (first - second) / 2
        choice = _side(logit)
    return Verdict(
        choice=choice,
        logit=logit,
        judge=judge,
        forward=None if first is None else forward,
        backward=None if second is None else backward,
    )


def _says(call: Call | None, margin: float, *, graded: bool) -> float | None:
    """How far a call prefers the response that it showed first; None where it does not speak."""
    if call is None or call.reading.preferred is None:
        return None
    weight = 0.5 if graded and not call.reading.strong else 1.0
    return margin * weight * call.reading.preferred


def _side(logit: float) -> Choice:
    if logit == 0:
        return "tie"
    return "a" if logit > 0 else "b"
