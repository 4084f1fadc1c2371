"""`POST /v1/part`: a rank that holds a part of a batch, answered about its own samples when the whole batch is judged, as one step."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from judgeflow.adapters.assembly import Assembled, Assembly
from judgeflow.adapters.groups import counts_of, rewards_of, shares_of, silence_of
from judgeflow.client.wire import PART_ANSWER, PART_PATH, PartAnswer, RewardAnswer, read_part_request
from judgeflow.types import Group, StepResult, StepStatistics
from judgeflow.web.reception import Reception
from judgeflow.web.trainers import SMALL, answering, json_body, off_loop


class Routes(Protocol):
    """Whoever says which of K responses are better: a `Scheduler`."""

    def route_groups(self, groups: Sequence[Group], step: int | None = None) -> Coroutine[Any, Any, StepResult]:
        """Return the outcomes of all pairs, in the order of the groups."""
        ...

    @property
    def refusal(self) -> Exception | None:
        """Why the judge cannot be used at the moment."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What every row of a batch is worth."""

    rows: Sequence[RewardAnswer]
    statistics: StepStatistics
    silence: str


def part_routes(router: Routes, reception: Reception, assembly: Assembly) -> list[web.RouteDef]:
    """Return the route by which ranks ask that hold parts of groups."""

    async def part(request: web.Request) -> web.StreamResponse:
        body = await json_body(request)
        asked = await off_loop(len(body), lambda: read_part_request(body))
        batch = await assembly.join(asked)

        async def work() -> _Judged:
            result = await router.route_groups(batch.groups, batch.step)
            refusal = router.refusal
            return await off_loop(SMALL + 1, lambda: _judged(batch, result, refusal))

        judged = await reception.answer(batch.name, work)  # one work for all ranks: they meet by the batch's name
        answer = await off_loop(len(body), lambda: PART_ANSWER.dump_json(_answer(batch, judged, asked.rank)))
        return web.Response(body=answer, content_type="application/json")

    return [web.post(PART_PATH, answering(part))]


def _judged(batch: Assembled, result: StepResult, refusal: Exception | None) -> _Judged:
    rewards = rewards_of(result, batch.groups, batch.places, 1.0)
    shares = shares_of(result, batch.groups, batch.places)
    counts = counts_of(result, batch.groups, batch.places)
    here = {row: len(places) for places in batch.places for row in places}
    rows = [
        RewardAnswer(reward=rewards[row] or 0.0, share=shares[row], of=here[row], wanted=batch.size, sources=counts[row])
        for row in range(batch.count)
    ]
    return _Judged(rows=rows, statistics=result.statistics, silence=silence_of(result, lambda: refusal))


def _answer(batch: Assembled, judged: _Judged, rank: int) -> PartAnswer:
    rows = batch.rows[rank]
    return PartAnswer(
        places=tuple(judged.rows[row] for row in rows),
        statistics=judged.statistics,
        share=len(rows) / max(1, batch.count),
        missing=batch.missing,
        silence=judged.silence if rank == min(batch.rows) else "",
    )
