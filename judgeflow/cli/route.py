"""`judgeflow route`: pairs from a file, through the scheduler, to outcomes in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judgeflow.cli import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from judgeflow.cli.summary import Summary
    from judgeflow.config import Config
    from judgeflow.engine.scheduler import Scheduler
    from judgeflow.types import Pair

DEFAULT_STEP_SIZE = 1536


def route(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.jsonl", help="Pair records, one JSON object a line.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUTCOMES.jsonl", help="Where the outcomes go, in input order.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="Configuration file.")] = Path("judgeflow.toml"),
    step_size: Annotated[int, typer.Option(min=1, help="Pairs of one step.")] = DEFAULT_STEP_SIZE,
    on_bad_record: Annotated[str, typer.Option(help="fatal: stop before anything is asked; skip: leave bad records out.")] = "fatal",
    retry_failed: Annotated[bool, typer.Option(help="Ask again what was refused, truncated or unreadable.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Route a file of pairs to stored verdicts and the judge.

    The same command continues a run that was interrupted: what was paid for is in the database and is not asked again.

    Example: judgeflow route pairs.jsonl --config judgeflow.toml --out outcomes.jsonl --set routing.policy=always
    """
    import asyncio

    from judgeflow.cli.summary import Summary, print_summary
    from judgeflow.config import load_config
    from judgeflow.records import read_pairs

    if on_bad_record not in {"fatal", "skip"}:
        raise typer.BadParameter("accepted are fatal and skip", param_hint="--on-bad-record")
    loaded = load_config(config, _overrides(settings or []))
    records, bad = read_pairs(pairs, on_bad_record="skip" if on_bad_record == "skip" else "fatal")
    _require_folder(out)
    for record in bad:
        typer.echo(f"{pairs}:{record.line}: skipped: {record.reason}", err=True)
    summary = Summary(skipped=len(bad), out=str(out))
    run = _Run(config=loaded, source=pairs, pairs=records, out=out, step_size=step_size, retry_failed=retry_failed, summary=summary)
    finished = asyncio.run(run.route())
    print_summary(summary, as_json=json)
    if not finished:
        done = f"{summary.pairs} of {len(records)} outcomes are in {run.partial}"
        typer.echo(f"interrupted: {done}; everything paid for is stored, and the same command goes on from there", err=True)
        raise typer.Exit(INTERRUPTED)


def _overrides(settings: Sequence[str]) -> dict[str, str]:
    from judgeflow.errors import ConfigurationError

    overrides = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ConfigurationError(f"--set {setting}: expected SECTION.KEY=VALUE, for instance routing.policy=always")
        overrides[name.strip()] = value.strip()
    return overrides


def _require_folder(out: Path) -> None:
    from judgeflow.errors import UsageError

    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.parent} does not exist")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file in it")


class _Run:
    """One call of the verb: outcomes grow in OUT.partial, which becomes OUT when the last one is written."""

    def __init__(
        self, *, config: Config, source: Path, pairs: list[Pair], out: Path, step_size: int, retry_failed: bool, summary: Summary
    ) -> None:
        self._config = config
        self._source = source
        self._pairs = pairs
        self._out = out
        self._step_size = step_size
        self._retry_failed = retry_failed
        self._summary = summary
        self._interrupted = False
        self.partial = out.with_name(out.name + ".partial")

    async def route(self) -> bool:
        """Route every step; return False if the user interrupted."""
        from judgeflow.build import build_scheduler
        from judgeflow.cli.progress import progress
        from judgeflow.observe.log import console_log

        steps = -(-len(self._pairs) // self._step_size)
        with progress(steps) as bar:
            scheduler = build_scheduler(
                self._config,
                run_input=self._fingerprint(),
                observers=[console_log(self._config.log), bar],
                retry_failed=self._retry_failed,
            )
            self._catch_signals(scheduler)
            async with scheduler:
                self._summary.run = scheduler.run
                await self._write(scheduler)
        if not self._interrupted:
            self.partial.replace(self._out)
        return not self._interrupted

    def _fingerprint(self) -> bytes:
        """What makes this input another input: the file's content and how it is cut into steps."""
        import hashlib

        with self._source.open("rb") as stream:
            return hashlib.file_digest(stream, "blake2b").digest() + self._step_size.to_bytes(8, "little")

    async def _write(self, scheduler: Scheduler) -> None:
        from judgeflow.records import outcome_line

        with self.partial.open("wb") as stream:
            for step, start in enumerate(range(0, len(self._pairs), self._step_size)):
                result = await scheduler.route(self._pairs[start : start + self._step_size], step=step)
                stream.writelines(outcome_line(outcome) for outcome in result.outcomes)
                self._summary.add(result)
                if self._interrupted:
                    return
                if scheduler.refusal is not None:
                    raise scheduler.refusal

    def _catch_signals(self, scheduler: Scheduler) -> None:
        import asyncio
        import signal

        loop = asyncio.get_running_loop()

        def interrupt(number: int) -> None:
            self._interrupted = True
            scheduler.stop()
            loop.remove_signal_handler(number)
            waiting = f"waiting for {scheduler.in_flight} requests in flight, whose replies are paid for"
            typer.echo(f"stopping: {waiting}; press Ctrl-C again to leave them", err=True)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt, number)
