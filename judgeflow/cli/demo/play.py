"""What the demo does, in order: write pairs, train, start the judge, route the same steps once for each policy, route one again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from judgeflow.cli.demo.judge import REQUESTS_PER_WINDOW, WINDOW_S, LocalJudge, local_judge
from judgeflow.cli.demo.score import ArmScore, score_arm
from judgeflow.cli.demo.tasks import routed_pairs, training_pairs
from judgeflow.errors import UsageError
from judgeflow.model.trainer import TrainingReport
from judgeflow.testing.pairs import pair_lines
from judgeflow.types import Pair, StepResult

SHARE = 0.2
ARMS = ("never", "random", "margin", "error", "uncertainty", "always")
AGAIN = "error"
KEY_VARIABLE = "DEMO_JUDGE_KEY"
MAX_TOKENS = 48
PRECISION_PAIRS = 6000

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What to play, and where its files go."""

    directory: Path
    steps: int
    step_size: int
    training_pairs: int
    seed: int

    @property
    def pairs(self) -> Path:
        """The pairs that are routed."""
        return self.directory / "pairs.jsonl"

    @property
    def scorer(self) -> Path:
        """The trained scorer."""
        return self.directory / "scorer"

    def config(self, arm: str) -> Path:
        """The configuration of one arm."""
        return self.directory / f"{arm}.toml"

    @property
    def budget(self) -> int:
        """Paid replies of a routed arm: both orders of its share of all pairs."""
        return 2 * round(SHARE * self.step_size) * self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of it; `seconds` is everything, imports excepted."""

    script: Script
    training: TrainingReport
    arms: dict[str, ArmScore]
    again: ArmScore
    judge: dict[str, Any]
    seconds: float


def play(script: Script, *, quiet: bool) -> Report:
    """Play the whole demo.  Raises `UsageError` if the folder exists already."""
    started = time.monotonic()
    _make_folder(script.directory)
    learned = training_pairs(script.training_pairs, script.seed)
    pairs = routed_pairs(script.steps * script.step_size, script.seed + 1, without={pair.prompt for pair in learned})
    _write(script.directory / "training.jsonl", learned)
    _write(script.pairs, pairs)
    with _bars(quiet=quiet) as tell:
        trained = _train(script, learned, tell)
        with local_judge(script.pairs, [_key(arm) for arm in ARMS], script.directory / "judge.log") as judge:
            for arm in ARMS:
                _write_config(script, arm, judge)
            outcomes = {arm: _run(script, arm, pairs, tell) for arm in ARMS}
            again = _run(script, AGAIN, pairs, tell)
            counted = judge.statistics()
    random = outcomes["random"]
    return Report(
        script=script,
        training=trained,
        arms={arm: score_arm(played.results, random.results, played.seconds) for arm, played in outcomes.items()},
        again=score_arm(again.results, random.results, again.seconds),
        judge=counted,
        seconds=time.monotonic() - started,
    )


def _make_folder(directory: Path) -> None:
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{directory} exists; remove it, or name another folder with --directory") from None
    except OSError as error:
        raise UsageError(f"--directory {directory}: cannot be made: {error.strerror or error}") from None


def _write(path: Path, pairs: Sequence[Pair]) -> None:
    with path.open("wb") as stream:
        stream.writelines(pair_lines(pairs))


@contextmanager
def _bars(*, quiet: bool) -> Iterator[Tell]:
    from judgeflow.cli.progress import activity

    if quiet:
        yield lambda _name, _done, _total: None
        return
    with activity() as tell:
        yield tell


def _train(script: Script, pairs: Sequence[Pair], tell: Tell) -> TrainingReport:
    from judgeflow.model.config import ModelConfig, TrainingConfig
    from judgeflow.model.train import train

    settings = TrainingConfig(epochs=1.0, backbone_lr=3e-3, validation_share=0.05, precision_pairs=PRECISION_PAIRS, seed=script.seed)
    _, report = train(pairs, script.scorer, model=ModelConfig(max_tokens=MAX_TOKENS), training=settings, device="cpu", progress=tell)
    return report


def _key(arm: str) -> str:
    return f"demo-{arm}"


def _quoted(path: Path) -> str:
    """A path as a TOML string: JSON's escapes are TOML's too."""
    return orjson.dumps(str(path)).decode()


def _write_config(script: Script, arm: str, judge: LocalJudge) -> None:
    choosing = arm not in {"always", "never"}
    budget = f"\n[budget]\nrequests = {script.budget}\nsteps = {script.steps}\n" if choosing else ""
    text = f"""\
[run]
name = "{arm}"
directory = {_quoted(script.directory.resolve())}

[scorer]
path = "{script.scorer.name}"
device = "cpu"

[judge]
base_url = "{judge.base_url}"
id = "demo judge"
model = "fake-judge"
api_key_env = "{KEY_VARIABLE}"
max_completion_tokens = 512

[limits]
requests_per_minute = {REQUESTS_PER_WINDOW}
window_s = {WINDOW_S}
start = "paced"
max_in_flight = 128
{budget}
[routing]
policy = "{arm}"

[store]
url = "sqlite+aiosqlite:///{arm}.db"

[log]
path = "{arm}.log"
"""
    script.config(arm).write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Played:
    results: list[StepResult]
    seconds: float


def _run(script: Script, arm: str, pairs: Sequence[Pair], tell: Tell) -> _Played:
    """Route all steps of one arm through the real scheduler, as a training loop would."""
    os.environ[KEY_VARIABLE] = _key(arm)
    try:
        return asyncio.run(_route(script, arm, pairs, tell))
    finally:
        del os.environ[KEY_VARIABLE]


async def _route(script: Script, arm: str, pairs: Sequence[Pair], tell: Tell) -> _Played:
    from judgeflow import Scheduler, load_config

    results: list[StepResult] = []
    settings = load_config(script.config(arm), environ={})  # the demo is the same whatever the environment sets
    async with Scheduler.from_config(settings) as scheduler:
        started = time.monotonic()
        for step in range(script.steps):
            tell(f"routing: {arm}", step, script.steps)
            results.append(await scheduler.route(pairs[step * script.step_size : (step + 1) * script.step_size], step=step))
        seconds = time.monotonic() - started
    tell(f"routing: {arm}", script.steps, script.steps)
    return _Played(results, seconds)
