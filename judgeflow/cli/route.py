"""`judgeflow route`: pairs from a file, through the scheduler, to outcomes in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judgeflow.cli import INTERRUPTED
from judgeflow.cli.interrupt import say
from judgeflow.cli.options import OnBadRecord, Settings, ShowProgress
from judgeflow.cli.overrides import overrides
from judgeflow.cli.records import PairsColumns, PairsFormat, PairsSplit, PairsSubset
from judgeflow.plurals import plural

if TYPE_CHECKING:
    from judgeflow.cli.outcomes_file import OutcomesFile
    from judgeflow.cli.summary import Summary
    from judgeflow.config import Config, JudgeConnection, LimitsConfig
    from judgeflow.engine.scheduler import Scheduler
    from judgeflow.types import Pair

DEFAULT_STEP_SIZE = 1536


def route(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS.jsonl", help="Pairs: a .jsonl, .json or .parquet file, a folder, or a name of the hub.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUTCOMES.jsonl", help="Where the outcomes go, in input order.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="Configuration file.")] = Path("judgeflow.toml"),
    step_size: Annotated[int, typer.Option(min=1, help="Pairs of one step.")] = DEFAULT_STEP_SIZE,
    kind: PairsFormat = "auto",
    subset: PairsSubset = None,
    split: PairsSplit = None,
    columns: PairsColumns = None,
    on_bad_record: Annotated[
        OnBadRecord, typer.Option(help="fatal: stop before anything is asked; skip: leave bad records out.")
    ] = "fatal",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask again what was refused, truncated or unreadable.")] = False,
    settings: Settings = None,
    progress: ShowProgress = True,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Route a file of pairs to stored verdicts and the judge.

    The same command continues a run that was interrupted: what was paid for is in the database and is not asked again. Outcomes grow in
    OUTCOMES.jsonl.partial, which gets its final name when the last one is written.

    Exit codes: 0 every pair has its outcome; 1 the judge, the scorer, the database or the disk failed; 2 usage or configuration;
    130 interrupted.

    Example: judgeflow route pairs.jsonl --config judgeflow.toml --out outcomes.jsonl
    Example: judgeflow route pairs.jsonl --out outcomes.jsonl --set routing.policy=always --set budget.requests=500
    """
    from judgeflow.build import store_url
    from judgeflow.cli.outcomes_file import OutcomesFile
    from judgeflow.cli.records import content_digest, read_usable, reading_of
    from judgeflow.cli.summary import JudgeShare, Summary
    from judgeflow.config import load_config
    from judgeflow.store.engines import file_of

    loaded = load_config(config, overrides(settings))
    reading = reading_of(kind, split, subset, columns)
    records, skipped = read_usable(pairs, on_bad_record, reading)
    database = file_of(store_url(loaded))
    taken = {pairs: "the pairs", config: "the configuration"} | ({database: "the verdict database"} if database else {})
    with OutcomesFile(out, taken) as outcomes:
        run = _Run(
            config=loaded,
            source=pairs,
            content=content_digest(pairs, records, reading),
            pairs=records,
            outcomes=outcomes,
            step_size=step_size,
            retry_failed=retry_failed,
            show_progress=progress,
            summary=Summary(
                skipped=skipped,
                out=str(out),
                orders=loaded.judge.orders,
                judges={judge.name: JudgeShare() for judge in (loaded.judge, *loaded.judges.values())},
            ),
        )
        _carry_out(run, as_json=json)


def _carry_out(run: _Run, *, as_json: bool) -> None:
    """Route, print the summary, and end with the exit code of what happened."""
    import asyncio

    from judgeflow.cli.summary import print_summary
    from judgeflow.errors import JudgeError

    try:
        asyncio.run(run.route())
    except KeyboardInterrupt:  # the second Ctrl-C, which has said what it costs
        raise typer.Exit(INTERRUPTED) from None
    print_summary(run.summary, as_json=as_json)
    if run.summary.first_too_long:
        say(run.too_long())
    if run.interrupted:
        say(f"interrupted: {run.progress()}; everything paid for is stored, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED)
    complaint = run.complaint()
    if complaint:
        raise JudgeError(complaint)


def _keys_of_length(section: str, judge: JudgeConnection, limits: LimitsConfig) -> str:
    """The keys that decide how long a question to this judge may be, with their values."""
    keys = f"[{section}] max_prompt_tokens = {judge.max_prompt_tokens}"
    if limits.tokens_per_minute is None:
        return keys
    return f"{keys} and [{'limits' if section == 'judge' else f'{section}.limits'}] tokens_per_minute = {limits.tokens_per_minute}"


class _Run:
    """One call of the verb, from pairs to a file of outcomes."""

    def __init__(
        self,
        *,
        config: Config,
        source: Path,
        content: bytes,
        pairs: list[Pair],
        outcomes: OutcomesFile,
        step_size: int,
        retry_failed: bool,
        show_progress: bool,
        summary: Summary,
    ) -> None:
        from judgeflow.cli.route_progress import RouteProgress
        from judgeflow.cli.watch import Watch

        self.summary = summary
        self.interrupted = False
        self._config = config
        self._source = source
        self._content = content
        self._pairs = pairs
        self._outcomes = outcomes
        self._step_size = step_size
        self._retry_failed = retry_failed
        self._show_progress = show_progress
        self._stopped = False
        self._judged: list[tuple[Pair, float]] = []
        self._watch = Watch(config.judge.template, say)
        self._bar = RouteProgress(len(pairs), config.budget)

    async def route(self) -> None:
        """Route every step; stop early if the user interrupts, or nothing can be asked any more."""
        import contextlib

        from judgeflow.build import build_scheduler, store_url
        from judgeflow.cli.benchmark import benchmark_of
        from judgeflow.cli.heap import kept_out_of_collections
        from judgeflow.cli.progress import activity
        from judgeflow.errors import StoreUnavailable
        from judgeflow.observe.log import console_log
        from judgeflow.store.engines import database_at
        from judgeflow.store.migrate import inspect

        with activity(wanted=self._show_progress, beside=self._bar.words) as self._bar.tell:
            scheduler = build_scheduler(
                self._config,
                run_input=self._fingerprint(),
                observers=[console_log(self._config.log), self._watch, self._bar],
                retry_failed=self._retry_failed,
            )
            self._bar.in_flight = lambda: scheduler.in_flight
            self._catch_signals(scheduler)
            address = store_url(self._config)
            is_new = (await inspect(address)).kind in {"missing", "empty"}
            async with scheduler:
                if is_new:
                    say(f"created new verdict database {database_at(address).name}")
                self.summary.run = scheduler.run
                with contextlib.suppress(StoreUnavailable):  # the bar then counts from here; the run says what is wrong
                    self._bar.spent((await scheduler.state()).spent)
                with kept_out_of_collections():
                    await self._write(scheduler)
        self.summary.paid = self._bar.paid
        if self.interrupted or self._stopped:
            self.summary.out = str(self._outcomes.partial)
        else:
            self._outcomes.complete()
            self.summary.benchmark = benchmark_of(self._judged)

    def _fingerprint(self) -> bytes:
        """What makes this input another input: its content, how that is read and how it is cut into steps."""
        return self._content + self._step_size.to_bytes(8, "little")

    async def _write(self, scheduler: Scheduler) -> None:
        from judgeflow.records import outcome_line

        for step, start in enumerate(range(0, len(self._pairs), self._step_size)):
            pairs = self._pairs[start : start + self._step_size]
            result = await scheduler.route(pairs, step=step, on_outcome=self._bar.outcome)
            self._judged += zip(pairs, result.logits, strict=True)
            self._outcomes.write(outcome_line(outcome) for outcome in result.outcomes)
            self.summary.add(result)
            self._stopped = scheduler.refusal is not None
            if self.interrupted or self._stopped:
                return

    def progress(self) -> str:
        """How far an unfinished run has come."""
        pairs = plural(len(self._pairs), "pair is", "pairs are")
        return f"{self.summary.decided:,} of {pairs} decided, the outcomes so far are in {self._outcomes.partial}"

    def too_long(self) -> str:
        """What to say about pairs that were too long to be asked about: the first, and the keys that decide."""
        from judgeflow.cli.summary import TOO_LONG

        config = self._config
        named = [(f"judges.{name}", judge, judge.limits) for name, judge in config.judges.items()]
        keys = " and ".join([_keys_of_length("judge", config.judge, config.limits), *(_keys_of_length(*each) for each in named)])
        return (
            f"not asked: {plural(self.summary.statuses[TOO_LONG], 'pair is', 'pairs are')} longer than {keys} admit, "
            f"the first is {self.summary.first_too_long} of {self._source}; shorten them, or raise the limit if the judge takes as much"
        )

    def complaint(self) -> str:
        """What to say if the judge or the scorer failed pairs that were to be asked about; nothing if neither did."""
        unasked = self.summary.unasked
        parts = [f"stopped: {self.progress()}"] if self._stopped else []
        if unasked:
            counts = ", ".join(f"{status} {count:,}" for status, count in unasked.most_common())
            parts.append(f"{plural(unasked.total(), 'pair')} went without the judge ({counts})")
        if not parts:
            return ""
        if self._watch.last_error is not None:
            parts.append(f"the last error: {self._watch.last_error}")
        return "; ".join([*parts, "the same command asks again what is missing"])

    def _catch_signals(self, scheduler: Scheduler) -> None:
        import asyncio
        import signal

        loop = asyncio.get_running_loop()

        def leave() -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            requests = plural(scheduler.in_flight, "request")
            lost = f"the replies of {requests} in flight are lost, and the budget counts them at their worst case"
            say(f"left: {lost}; everything before is stored, and the same command goes on from there")
            raise KeyboardInterrupt

        def interrupt() -> None:
            self.interrupted = True
            scheduler.stop()
            waiting = f"waiting for {plural(scheduler.in_flight, 'request')} in flight, whose replies are paid for"
            say(f"stopping: {waiting}; press Ctrl-C again to leave them")
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, leave)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
