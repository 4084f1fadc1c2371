"""Everything a fake judge decides about a request, without I/O: which fault it meets, what it is answered, what that counts.

`FakeJudge` carries the decisions out over HTTP, `ScriptedJudge` in process.  State changes only in `receive`, `leave` and the
counters of `statistics`, none of which awaits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from judgeflow.chance import chance, parse_latency
from judgeflow.testing.faults import OK, parse_faults
from judgeflow.testing.limits import JudgeLimits, Meter, OverLimit
from judgeflow.testing.opinions import Asked, NotRecorded, Speaker, count_tokens, tags_of

LIMITED = "limited"
NOT_RECORDED = "not-recorded"
_AT_ONCE = frozenset({"429", "429-bare", "quota", "400", LIMITED, NOT_RECORDED})
_REFUSAL = "I am sorry, but I cannot help with that."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One reply as it will be sent, with the tokens it is billed for; `reasoning_tokens` are part of `completion_tokens`."""

    text: str | None
    finish_reason: str = "stop"
    reasoning: str = ""
    refusal: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What happens to one request: `kind` is "ok", a fault, "limited" or "not-recorded"; `delay_s` passes before the answer."""

    kind: str
    asked: Asked
    answer: Answer
    key: str = ""
    delay_s: float = 0.0
    over: OverLimit | None = None
    problem: str = ""


class Statistics:
    """What a fake judge has seen.  `as_dict()` is what GET /stats returns; it grows with the number of questions."""

    def __init__(self) -> None:
        self.requests = 0
        self.answered = 0
        self.statuses: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        self.in_flight = 0
        self.max_concurrency = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.question_requests: Counter[str] = Counter()
        self.question_answers: Counter[str] = Counter()
        self.keys: dict[str, Counter[str]] = {}

    @property
    def provoked_429(self) -> int:
        """How many requests were turned away because they really passed a limit."""
        return self.limited.total()

    def as_dict(self) -> dict[str, Any]:
        """Return all counters as JSON types."""
        questions = {name: {"requests": count, "answered": self.question_answers[name]} for name, count in self.question_requests.items()}
        return {
            "requests": self.requests,
            "answered": self.answered,
            "statuses": dict(self.statuses),
            "faults": dict(self.faults),
            "violations": {"requests": 0, "tokens": 0, "concurrency": 0} | dict(self.limited),
            "provoked_429": self.provoked_429,
            "in_flight": self.in_flight,
            "max_concurrency": self.max_concurrency,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "keys": {name: dict(counts) for name, counts in self.keys.items()},
            "questions": questions,
        }


class Desk:
    """Decides about requests in order of arrival.  `slow_s` is what the fault "slow" adds, in seconds."""

    def __init__(
        self,
        speaker: Speaker,
        *,
        faults: str | Sequence[str] = "",
        latency: str | float = 0.0,
        limits: JudgeLimits | None = None,
        slow_s: float = 5.0,
        seed: int = 0,
    ) -> None:
        self.statistics = Statistics()
        self._speaker = speaker
        self._faults = parse_faults(faults, seed=seed)
        self._latency = parse_latency(latency)
        self._limits = limits or JudgeLimits()
        self._slow_s = slow_s
        self._seed = seed
        self._meters: dict[str, Meter] = {}

    def receive(self, asked: Asked, *, key: str, now: float) -> Ruling:
        """Decide about a request that arrives now.  It is under way until `leave`."""
        statistics = self.statistics
        statistics.question_requests[asked.question] += 1
        kind = self._faults.next(asked.question, statistics.question_requests[asked.question])
        try:
            text, problem = self._speaker.reply(asked), ""
        except NotRecorded as error:
            text, problem, kind = "", str(error), NOT_RECORDED
        answer = make_answer(text, asked, kind)
        over = self.meter(key).admit(self._charge(asked, answer), now)
        kind = LIMITED if over else kind
        self._count(kind, key, over)
        return Ruling(kind=kind, asked=asked, answer=answer, key=key, delay_s=self._delay(kind, asked), over=over, problem=problem)

    def report(self) -> dict[str, Any]:
        """Return the statistics as JSON types, with the most that each window of an API key ever held, and its average share."""
        report = self.statistics.as_dict()
        for key, meter in self._meters.items():
            for name, window in meter.windows.items():
                report["keys"].setdefault(key, {}).update({f"peak_{name}": window.peak, f"share_{name}": round(window.share, 6)})
        return report

    def change(self, limits: JudgeLimits) -> None:
        """Admit by other limits from now on; windows keep what they hold.  Their length and what is limited cannot change."""
        self._limits = limits
        for meter in self._meters.values():
            meter.change(limits)

    def meter(self, key: str) -> Meter:
        """Return the limits of one API key as they stand."""
        if key not in self._meters:
            self._meters[key] = Meter(self._limits)
        return self._meters[key]

    def _charge(self, asked: Asked, answer: Answer) -> int:
        if self._limits.charge == "reserved" and asked.max_tokens is not None:
            return asked.prompt_tokens + asked.max_tokens
        return answer.prompt_tokens + answer.completion_tokens

    def _delay(self, kind: str, asked: Asked) -> float:
        if kind in _AT_ONCE:
            return 0.0
        usual = self._latency.seconds(chance(self._seed, "latency", asked.question))
        return usual + self._slow_s if kind == "slow" else usual

    def _count(self, kind: str, key: str, over: OverLimit | None) -> None:
        statistics = self.statistics
        counts = statistics.keys.setdefault(key, Counter())
        counts["requests"] += 1
        if over:
            statistics.limited[over.over] += 1
            counts["provoked_429"] += 1
        elif kind != OK:
            statistics.faults[kind] += 1
        statistics.in_flight += 1
        statistics.max_concurrency = max(statistics.max_concurrency, statistics.in_flight)

    def leave(self, ruling: Ruling, *, answered: bool) -> None:
        """Count a request as finished; `answered` if a whole, well-formed reply went out."""
        statistics = self.statistics
        statistics.in_flight -= 1
        if ruling.over is None:
            self.meter(ruling.key).leave()
        if answered:
            statistics.answered += 1
            statistics.question_answers[ruling.asked.question] += 1
            statistics.keys[ruling.key]["answered"] += 1
            statistics.keys[ruling.key]["tokens"] += ruling.answer.prompt_tokens + ruling.answer.completion_tokens
            statistics.prompt_tokens += ruling.answer.prompt_tokens
            statistics.completion_tokens += ruling.answer.completion_tokens


def make_answer(text: str, asked: Asked, fault: str) -> Answer:
    """Return the answer that a fault makes of the judge's text, within the request's token limit."""
    match fault:
        case "null":
            answer = Answer(text=None)
        case "no-tag":
            answer = Answer(text="Both responses have their merits; I would rather not decide.")
        case "refusal":
            answer = Answer(text=None, refusal=_REFUSAL)
        case "content-filter":
            answer = Answer(text="", finish_reason="content_filter")
        case "length":
            answer = Answer(text=text[: len(text) // 2], finish_reason="length")
        case "reasoning":
            answer = _reasoned(text, asked)
        case _:
            answer = Answer(text=text)
    return _bill(answer, asked)


def _reasoned(text: str, asked: Asked) -> Answer:
    thought = f"This could be {', '.join(tags_of(asked.instructions))}; let me think about it before I decide."
    return Answer(text=f"<think>\n{thought}\n</think>\n\n{text}", reasoning=thought)


def _bill(answer: Answer, asked: Asked) -> Answer:
    """The answer with its usage, cut where it passes the limit.  A reply that ran into the limit is billed to the limit."""
    text, limit, finish_reason = answer.text, asked.max_tokens, answer.finish_reason
    spoken = count_tokens(text or answer.refusal or "")
    reasoning = count_tokens(answer.reasoning)
    if limit is not None and (spoken > limit or finish_reason == "length"):
        text = None if text is None else text.encode("utf-8", "surrogatepass")[: 4 * limit].decode("utf-8", "ignore")
        spoken, finish_reason, reasoning = limit, "length", min(reasoning, limit)
    return Answer(
        text=text,
        finish_reason=finish_reason,
        reasoning=answer.reasoning,
        refusal=answer.refusal,
        prompt_tokens=asked.prompt_tokens,
        completion_tokens=spoken,
        reasoning_tokens=reasoning,
    )
