"""The test kit: judges, scorers and clocks for testing what you build on judgeflow, without network, money or waiting.

A judge over real HTTP, which knows some labels, makes mistakes and fails like real ones do:

>>> from judgeflow.testing import FakeJudge, arithmetic_pairs
>>> pairs = arithmetic_pairs(200)
>>> async with FakeJudge.from_pairs(pairs, accuracy=0.9, faults="429:0.1,500:0.05") as judge:
...     await my_pipeline(pairs, base_url=judge.base_url, model="fake-judge")
...     assert judge.statistics.answered == 2 * len(pairs)

The same judge in process, on a clock whose hours pass in microseconds:

>>> from judgeflow.testing import ScriptedJudge, VirtualClock
>>> clock = VirtualClock()
>>> judge = ScriptedJudge(clock=clock, latency="lognormal:20:0.4", faults=["500", "ok"])
>>> clock.run(my_scheduler_run(judge))

And the contracts of the ports as test classes: inherit from `JudgeContract` or `StoreContract`, say how yours is opened, and
run pytest.  docs/testing.md is the guide.  Names are loaded when first used; none needs pytest before a contract is run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judgeflow.clock import VirtualClock
    from judgeflow.testing.fake_judge import FakeJudge
    from judgeflow.testing.faults import FAULTS
    from judgeflow.testing.judge import ScriptedJudge
    from judgeflow.testing.judge_contract import JudgeContract
    from judgeflow.testing.limits import JudgeLimits
    from judgeflow.testing.opinions import Opinions
    from judgeflow.testing.pairs import arithmetic_pairs
    from judgeflow.testing.recorded import Recording, recording
    from judgeflow.testing.scorer import FakeScorer
    from judgeflow.testing.store_contract import StoreContract
    from judgeflow.testing.threaded import serve_in_thread
    from judgeflow.testing.watcher import Watcher

__all__ = [
    "FAULTS",
    "FakeJudge",
    "FakeScorer",
    "JudgeContract",
    "JudgeLimits",
    "Opinions",
    "Recording",
    "ScriptedJudge",
    "StoreContract",
    "VirtualClock",
    "Watcher",
    "arithmetic_pairs",
    "recording",
    "serve_in_thread",
]

_HOME_OF = {
    "FAULTS": "judgeflow.testing.faults",
    "FakeJudge": "judgeflow.testing.fake_judge",
    "FakeScorer": "judgeflow.testing.scorer",
    "JudgeContract": "judgeflow.testing.judge_contract",
    "JudgeLimits": "judgeflow.testing.limits",
    "Opinions": "judgeflow.testing.opinions",
    "Recording": "judgeflow.testing.recorded",
    "ScriptedJudge": "judgeflow.testing.judge",
    "StoreContract": "judgeflow.testing.store_contract",
    "VirtualClock": "judgeflow.clock",
    "Watcher": "judgeflow.testing.watcher",
    "arithmetic_pairs": "judgeflow.testing.pairs",
    "recording": "judgeflow.testing.recorded",
    "serve_in_thread": "judgeflow.testing.threaded",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
