"""What is the case with a run, in one sentence: the same words on the screen, in the file, on the page and for programs."""

from __future__ import annotations

from judgeflow.plurals import plural
from judgeflow.report.wording import duration, moment, money
from judgeflow.store.runs import Pace, RunRow, Standing, longest_reply_s


def news_of(state: Standing, pace: Pace) -> str:
    """Say it."""
    so_far = f"{_course(state)}, {_spent(state.run)}"
    if pace == "finished":
        return f"Finished: {plural(state.steps, 'step')}, {_spent(state.run)}."
    if pace == "running":
        return f"Running: {so_far}."
    if pace == "interrupted":
        waited = duration(longest_reply_s(state.run.config))
        return f"Interrupted in step {state.unended} after {moment(state.active_at)}: {so_far}. No reply takes longer than {waited}."
    meaning = "It is over, waits, or was stopped." if state.unended is None else f"Step {state.unended} waits, or was stopped."
    return f"Quiet since {moment(state.active_at)}: {so_far}. {meaning}"


def _course(state: Standing) -> str:
    last = "no step has ended yet" if state.last_step is None else f"step {state.last_step} has ended"
    return last if state.planned is None else f"{last} ({plural(state.planned, 'step is', 'steps are')} planned)"


def _spent(run: RunRow) -> str:
    usd = f" with {money(run.spent.usd)}" if run.spent.usd else ""
    return f"{plural(run.spent.requests, 'reply', 'replies')} paid for{usd}"
