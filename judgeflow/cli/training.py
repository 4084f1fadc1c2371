"""A training under way for `judgeflow train`: what it tells meanwhile, how it is interrupted, and what is printed in the end."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import typer

from judgeflow.cli import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from judgeflow.model.config import ModelConfig, TrainingConfig
    from judgeflow.model.trainer import TrainingReport
    from judgeflow.model.watch import Observe, Progress
    from judgeflow.types import Pair

_FEW = 50
_INTERRUPTED_ONE = "{out} is as it was before; the same command goes on from the last state that was kept"
_INTERRUPTED_ALL = "what is finished is in {out}; the same command trains those again, and goes on with the one it was at"


class Settings(TypedDict):
    """What training one scorer and comparing several are both told to do."""

    backbone: str
    model: ModelConfig
    training: TrainingConfig
    device: str
    max_batch_tokens: int | None
    save_every_s: float
    restart: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Where a training tells of itself: files of every step (None: no such file), the screen meanwhile, and JSON in the end."""

    metrics: Path | None
    tensorboard: Path | None
    progress: bool
    as_json: bool


class _Watch(TypedDict):
    """What a training tells, and asks, while it runs."""

    progress: Progress
    observe: Observe
    stop: Callable[[], bool]


def train_one(pairs: Sequence[Pair], out: Path, settings: Settings, telling: Telling, *, tune: bool) -> None:
    """Train a scorer and print what it came to.  Exits where it is interrupted."""
    from judgeflow.model.config import TuningConfig
    from judgeflow.model.train import train

    told = _Told()
    with _watched(telling, told, _INTERRUPTED_ONE.format(out=out)) as watch:
        scorer, report = train(pairs, out, tuning=TuningConfig() if tune else None, **settings, **watch)
    _print(report, scorer.fingerprint, out, told.trials, as_json=telling.as_json)


def compare_all(pairs: Sequence[Pair], out: Path, settings: Settings, telling: Telling) -> None:
    """Train a scorer of every kind and print how they compare.  Exits where it is interrupted."""
    from judgeflow.cli.quality import print_rivals
    from judgeflow.model.rivals import compare_rivals

    with _watched(telling, _Told(), _INTERRUPTED_ALL.format(out=out)) as watch:
        rivals = compare_rivals(pairs, out, **settings, **watch)
    print_rivals(rivals, out, as_json=telling.as_json)


@contextmanager
def _watched(telling: Telling, told: _Told, interrupted: str) -> Iterator[_Watch]:
    """Open what is told to; after an interruption say what is left, and exit."""
    from judgeflow.cli.interrupt import asked_to_stop
    from judgeflow.cli.progress import activity

    try:
        with ExitStack() as open_files:
            observers = [told.observe, *(open_files.enter_context(sink) for sink in _sinks(telling))]
            yield {
                "stop": open_files.enter_context(asked_to_stop()),
                "progress": open_files.enter_context(activity(wanted=telling.progress, beside=told.words)),
                "observe": _all_of(observers),
            }
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {interrupted}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _sinks(telling: Telling) -> list[AbstractContextManager[Observe]]:
    from judgeflow.model.metrics import json_lines, tensorboard

    lines = [json_lines(telling.metrics)] if telling.metrics is not None else []
    return [*lines, tensorboard(telling.tensorboard)] if telling.tensorboard is not None else [*lines]


def _all_of(observers: Sequence[Observe]) -> Observe:
    def observe(record: Mapping[str, Any]) -> None:
        for observer in observers:
            observer(record)

    return observe


class _Told:
    """Says on stderr what a user should know while training runs, and collects what tuning tried."""

    def __init__(self) -> None:
        self.trials: list[Mapping[str, Any]] = []
        self._losses: dict[str, str] = {}

    def words(self) -> str:
        """What training has come to: the last loss, and what the last evaluation found."""
        return ", ".join(self._losses.values())

    def observe(self, record: Mapping[str, Any]) -> None:
        if record["event"] == "step":
            self._losses["step"] = f"loss {record['loss']:.3f}"
        elif record["event"] == "evaluation":
            self._losses["held out"] = f"held out {record['loss']:.3f}, accuracy {record['accuracy']:.3f}"
        elif record["event"] == "resume":
            typer.echo(f"going on after step {record['step']:,} of an interrupted run; --restart would start over", err=True)
        elif record["event"] == "restart":
            typer.echo(f"starting over: there is the state of an interrupted run, but {record['reason']}", err=True)
        elif record["event"] == "shortened":
            typer.echo(f"--max-tokens: {record['max_tokens']:,} is all that this backbone reads", err=True)
        elif record["event"] == "trial":
            self.trials.append({name: value for name, value in record.items() if name not in {"event", "again"}})
        elif record["event"] == "tuned" and not record["within"]:
            typer.echo(
                "no spectral bound is as accurate as the plain model, within the tolerance; the most accurate one is taken", err=True
            )


def _print(report: TrainingReport, fingerprint: str, out: Path, trials: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    import dataclasses

    import orjson

    from judgeflow.cli.quality import print_table, quality_rows

    if as_json:
        print(orjson.dumps(dataclasses.asdict(report) | {"fingerprint": fingerprint, "out": str(out), "tuning": trials}).decode())
        return
    cut = f", {report.cut / (report.tokens + report.cut):.1%} of all cut" if report.cut else ""
    rows = [
        ("pairs", f"{report.pairs:,} to train, {report.validation_pairs:,} held out; {report.prompts:,} prompts"),
        ("tokens", f"{report.tokens:,} read{cut}"),
        ("steps", f"{report.steps:,} on {report.device}, {report.seconds:.0f} s in all"),
        *quality_rows(report.validation, of="unseen prompts"),
        *_posterior_rows(report),
        ("temperature, amplitude", f"{report.calibration.temperature:.3g}, {report.calibration.amplitude:.3g}"),
    ]
    if trials:
        print_table("tuning", [_trial_row(trial) for trial in trials])
    print_table(f"scorer {fingerprint} in {out}", rows)
    if report.validation.pairs < _FEW:
        few = "only 1 pair was" if report.validation.pairs == 1 else f"only {report.validation.pairs} pairs were"
        typer.echo(f"{few} held out: the figures and the calibration may be far off", err=True)


def _posterior_rows(report: TrainingReport) -> list[tuple[str, str]]:
    if report.known_share is None:
        return []
    return [("known directions, d_eff / D", f"{report.known_share:.3f} (tau {report.prior_precision:.3g})")]


def _trial_row(trial: Mapping[str, Any]) -> tuple[str, str]:
    bound = trial["spectral_bound"]
    name = "plain model" if bound is None else f"spectral bound {bound:g}"
    return name, f"accuracy {trial['accuracy']:.3f}, logits ±{trial['logit_std']:.2f}, {trial['seconds']:.0f} s"
