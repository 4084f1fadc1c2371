"""A judge without a network: the same answers and faults as `FakeJudge`, in any clock's time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from judgeflow.clock import LoopClock
from judgeflow.errors import (
    GatewayFailed,
    JudgeBusy,
    JudgeError,
    JudgeOverloaded,
    JudgeRefusesService,
    QuestionRejected,
    RateLimited,
    ReplyLost,
)
from judgeflow.judges.rates import read_rates
from judgeflow.keys import digest
from judgeflow.ports import Clock
from judgeflow.testing.desk import Desk, Ruling, Statistics
from judgeflow.testing.faults import FAULTS
from judgeflow.testing.limits import JudgeLimits
from judgeflow.testing.opinions import Asked, Opinions, Speaker, understand
from judgeflow.types import Cost, JudgeIdentity, Question, RateHeaders, Reading, Reply, Usage
from judgeflow.verdicts.parse import read_reply
from judgeflow.verdicts.prompt import Template, load_template, render

_ERRORS: Mapping[str, type[JudgeError]] = {
    "429-bare": RateLimited,
    "quota": JudgeRefusesService,
    "400": QuestionRejected,
    "500": JudgeOverloaded,
    "503": JudgeBusy,
    "504": GatewayFailed,
    "error-200": GatewayFailed,
    "hang": ReplyLost,
    "reset": ReplyLost,
    "cut-off": ReplyLost,
    "truncated-json": ReplyLost,
    "garbage": ReplyLost,
}


class ScriptedJudge:
    """A `Judge` in process, for running schedulers in a `VirtualClock`.

    `speaker`, `faults`, `latency`, `limits`, `slow_s` and `seed` mean what they mean for `FakeJudge`; a fault raises what a client
    of the HTTP judge raises.  A hanging question fails after `timeout_s` seconds.  Prices are USD per million tokens.
    `statistics` counts what was asked.
    """

    def __init__(
        self,
        speaker: Speaker | None = None,
        *,
        clock: Clock | None = None,
        faults: str | Sequence[str] = "",
        latency: str | float = 0.0,
        limits: JudgeLimits | None = None,
        template: Template | str = "default",
        model: str = "scripted-judge",
        max_completion_tokens: int = 1024,
        prompt_usd_per_mtok: float = 0.0,
        completion_usd_per_mtok: float = 0.0,
        timeout_s: float = 120.0,
        slow_s: float = 5.0,
        retry_after_s: float = 0.1,
        seed: int = 0,
    ) -> None:
        self._clock = clock or LoopClock()
        self._template = load_template(template) if isinstance(template, str) else template
        self._max_tokens = max_completion_tokens
        self._prices = (prompt_usd_per_mtok, completion_usd_per_mtok)
        self._timeout_s = timeout_s
        self._retry_after_s = retry_after_s
        self._desk = Desk(speaker or Opinions(seed=seed), faults=faults, latency=latency, limits=limits, slow_s=slow_s, seed=seed)
        self._identity = _identity(model, self._template, max_completion_tokens)

    @property
    def identity(self) -> JudgeIdentity:
        return self._identity

    @property
    def statistics(self) -> Statistics:
        """What has been asked and answered so far."""
        return self._desk.statistics

    def cost(self, question: Question) -> Cost:
        prompt = self._understood(question).prompt_tokens
        usage = Usage(prompt=prompt, completion=self._max_tokens)
        return Cost(requests=1, tokens=usage.total, usd=self._usd(usage))

    async def ask(self, question: Question) -> Reply:
        asked, started = self._understood(question), self._clock.now()
        self.statistics.requests += 1
        ruling = self._desk.receive(asked, key="", now=started)
        answered = False
        try:
            await self._clock.sleep(self._timeout_s if ruling.kind == "hang" else ruling.delay_s)
            failure, rates = self._failure(ruling), self._rates()
            if failure is not None:
                failure.rates = rates
                raise failure
            answered = True
            return self._reply(ruling, rates, self._clock.now() - started)
        finally:
            self._desk.leave(ruling, answered=answered)

    def read(self, reply: Reply) -> Reading:
        return read_reply(reply, self._template.verdicts)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""

    def _understood(self, question: Question) -> Asked:
        messages = render(self._template, question)
        return understand([{"role": message.role, "content": message.content} for message in messages], self._max_tokens)

    def _failure(self, ruling: Ruling) -> JudgeError | None:
        if ruling.over is not None:
            return RateLimited(f"too many {ruling.over.over}", retry_after_s=ruling.over.retry_after_s)
        if ruling.problem:
            return QuestionRejected(ruling.problem)
        if ruling.kind == "429":
            return RateLimited(retry_after_s=self._retry_after_s)
        kind = _ERRORS.get(ruling.kind)
        return kind(f"scripted: {FAULTS[ruling.kind]}") if kind else None

    def _rates(self) -> RateHeaders | None:
        return read_rates(self._desk.meter("").headers(self._clock.now()))

    def _reply(self, ruling: Ruling, rates: RateHeaders | None, latency_s: float) -> Reply:
        answer = ruling.answer
        usage = Usage(prompt=answer.prompt_tokens, completion=answer.completion_tokens, reasoning=answer.reasoning_tokens)
        return Reply(
            text=answer.text or "",
            reasoning=answer.reasoning,
            refusal=answer.refusal,
            finish_reason=answer.finish_reason,
            usage=usage,
            usd=self._usd(usage),
            latency_s=latency_s,
            model=self._identity.model,
            rates=rates,
        )

    def _usd(self, usage: Usage) -> float:
        return (usage.prompt * self._prices[0] + usage.completion * self._prices[1]) / 1e6


def _identity(model: str, template: Template, max_completion_tokens: int) -> JudgeIdentity:
    parameters: Mapping[str, Any] = {
        "model": model,
        "template": template.hash.hex(),
        "max_completion_tokens": max_completion_tokens,
    }
    name = f"scripted {model}"
    return JudgeIdentity(id=name, model=model, fingerprint=digest("judge/1", {"id": name, **parameters}), parameters=parameters)
