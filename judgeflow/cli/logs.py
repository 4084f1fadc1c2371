"""`judgeflow logs`: the JSON log, filtered and readable, and as it grows."""

from __future__ import annotations

import difflib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from judgeflow.cli.options import Level
from judgeflow.plurals import plural

LEVELS: tuple[Level, ...] = get_args(Level)
POLL_S = 0.2
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FIRST = ("timestamp", "level", "event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events are shown: all that pass every filter that is set.  `since` is compared as ISO time, in UTC."""

    events: frozenset[str] = frozenset()
    levels: frozenset[str] = frozenset()
    fields: tuple[tuple[str, str], ...] = ()
    since: str = ""

    def admits(self, event: dict[str, Any]) -> bool:
        """Whether an event passes."""
        named = not self.events or event.get("event") in self.events
        loud = not self.levels or event.get("level", "info") in self.levels
        matched = all(str(event.get(name)) == value for name, value in self.fields)
        return named and loud and matched and str(event.get("timestamp", "")) >= self.since


def logs(
    file: Annotated[Path | None, typer.Argument(metavar="LOG", help="The log; default: [log] path of the configuration.")] = None,
    config: Annotated[Path, typer.Option("--config", "-c", help="Configuration file that names the log.")] = Path("judgeflow.toml"),
    event: Annotated[list[str] | None, typer.Option("--event", "-e", help="Only these events: step, call, ...; repeatable.")] = None,
    level: Annotated[Level, typer.Option(help="Only events of this level and above.")] = "debug",
    where: Annotated[
        list[str] | None, typer.Option("--where", "-w", metavar="FIELD=VALUE", help="Only events whose field has this value; repeatable.")
    ] = None,
    since: Annotated[str, typer.Option(metavar="AGE", help="Only events of the last 90s, 10m, 2h, 3d.")] = "",
    lines: Annotated[int | None, typer.Option("--lines", "-n", min=0, help="Only the last so many of them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the events as they are, one JSON object a line.")] = False,
) -> None:
    """Read the log of a run: one line an event, filtered, and with --follow as it grows.

    Example: judgeflow logs --event step --since 1h --follow
    Example: judgeflow logs run.jsonl --event call --where outcome=rate_limited --json
    """
    path = file or _configured(config)
    wanted = Wanted(
        events=frozenset(event or ()), levels=_from_level(level), fields=_fields(where or []), since=_moment(since, datetime.now(UTC))
    )
    log = _Log(path, wanted, as_json=json)
    try:
        shown, position = log.read(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from None
    log.require_events()
    _require_names(log, follow=follow)
    _print(shown if lines is None else shown[max(0, len(shown) - lines) :])
    if follow:
        _follow(path, position, log)
    log.complain(anything=bool(shown) or follow)


def _require_names(log: _Log, *, follow: bool) -> None:
    """Refuse names that no event has: neither in the log nor in docs/logs.md.  Who follows a log is only told: they may come yet."""
    from judgeflow.errors import UsageError

    events = _unknown("--event", log.wanted.events, log.events, _documented_events)
    fields = _unknown("--where", {name for name, _ in log.wanted.fields}, log.fields, _documented_fields)
    for each in (*events, *fields):
        if not follow:
            raise UsageError(f"{log.path}: {each}")
        typer.echo(f"{log.path}: {each}", err=True)


def _unknown(option: str, wanted: Iterable[str], there: Counter[str], documented: Callable[[], Iterable[str]]) -> Iterator[str]:
    """Yield what to say about each name that is neither `there` nor documented."""
    for name in sorted(set(wanted) - there.keys()):
        known = {*there, *documented()}
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(sorted(there)) or 'nothing yet'};"
            yield f"{option} {name}: no event of a log has this {'name' if option == '--event' else 'field'}; {hint} docs/logs.md has all"


def _documented_events() -> Iterable[str]:
    from judgeflow.observe.metrics import NOTICES

    return ("call", "step", *NOTICES)


def _documented_fields() -> Iterable[str]:
    from judgeflow.observe.names import FIELDS

    return FIELDS


def _configured(config: Path) -> Path:
    from judgeflow.config import load_config
    from judgeflow.errors import ConfigurationError

    if not config.exists():
        raise ConfigurationError(f"there is no {config} to say where the log is; name the log: judgeflow logs judgeflow.log")
    settings = load_config(config)
    if settings.log.path is None:
        raise ConfigurationError(f"{config}: [log] path: is not set, so this configuration writes no log; set it, or name a file")
    return settings.path(settings.log.path)


def _unreadable(path: Path, error: OSError) -> Exception:
    from judgeflow.errors import ConfigurationError

    return ConfigurationError(f"{path}: cannot be read: {error.strerror or error}; name a log that [log] path has written")


def _from_level(level: Level) -> frozenset[str]:
    return frozenset(LEVELS[LEVELS.index(level) :])


def _fields(filters: list[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for each in filters:
        name, separator, value = each.partition("=")
        if not separator:
            raise typer.BadParameter(f"{each}: expected FIELD=VALUE, for instance outcome=rate_limited", param_hint="--where")
        found.append((name.strip(), value.strip()))
    return tuple(found)


def _moment(age: str, now: datetime) -> str:
    """The moment so long ago, as the log writes it."""
    if not age:
        return ""
    match = _AGE.fullmatch(age)
    if match is None:
        raise typer.BadParameter(f"{age}: expected a number with s, m, h or d, for instance 10m", param_hint="--since")
    return (now - timedelta(seconds=float(match[1]) * _SECONDS[match[2]])).isoformat()


class _Log:
    """A log that is handed over in pieces: how often it has which events and fields, and how many lines are no events.

    Everything changes in `read` alone.
    """

    def __init__(self, path: Path, wanted: Wanted, *, as_json: bool) -> None:
        self.path = path
        self.wanted = wanted
        self.events = Counter[str]()
        self.fields = Counter[str]()
        self._as_json = as_json
        self._lines = 0
        self._unreadable = 0
        self._first = ""  # where the first line is that is no event, and what it is

    def read(self, content: bytes) -> tuple[list[str], int]:
        """Return what of whole lines is wanted, and how many bytes they are."""
        whole = content.rfind(b"\n") + 1
        return list(self._wanted(content[:whole])), whole

    def _wanted(self, content: bytes) -> Iterator[str]:
        import orjson

        for line in content.splitlines():
            self._lines += 1
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                event = None
            if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                self._note(line, event)
                continue
            self.events[event["event"]] += 1
            self.fields.update(event.keys())
            if self.wanted.admits(event):
                yield line.decode() if self._as_json else readable(event)

    def _note(self, line: bytes, content: object) -> None:
        self._unreadable += bool(line.strip())
        if line.strip() and not self._first:
            what = (
                f"an object of {', '.join(list(content)[:4])}" if isinstance(content, dict) and content else "a line that is no JSON object"
            )
            self._first = f"{self.path}:{self._lines}: {what}"

    def require_events(self) -> None:
        """Raise `UsageError` for a file that has lines and no event."""
        from judgeflow.errors import UsageError

        if self._first and not self.events:
            raise UsageError(f"{self._first}: has no `event`, and nor has any other line, so this is no log; {_NO_EVENTS}")

    def complain(self, *, anything: bool) -> None:
        """Say on stderr how much of the log is no event, and where nothing passes the filters."""
        if self._unreadable:
            typer.echo(f"{self.path}: {plural(self._unreadable, 'line is no event', 'lines are no events')}; {_NO_EVENTS}", err=True)
        if not anything:
            events = self.events.total()
            typer.echo(f"{self.path}: {f'none of {events:,} events passes' if events else 'no event has been written yet'}", err=True)


_NO_EVENTS = '[log] path names the log, and [log] format = "json" writes lines for this command ("console": for people)'


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def readable(event: dict[str, Any]) -> str:
    """Return one event as a line: when, how serious, what, and its fields."""
    when = str(event.get("timestamp", ""))[:19].replace("T", " ")
    rest = " ".join(f"{name}={_value(value)}" for name, value in event.items() if name not in _FIRST and value not in (None, {}, ""))
    return f"{when} {event.get('level', '')!s:<7} {event.get('event', '')!s:<16} {rest}".rstrip()


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{_value(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return repr(text) if " " in text else text


def _follow(path: Path, position: int, log: _Log, wait: Callable[[float], None] = time.sleep) -> None:
    """Print what is added, also after the file was replaced by a new one, until the user interrupts."""
    identity = path.stat().st_ino
    try:
        while True:
            state = path.stat() if path.exists() else None
            if state is not None and (state.st_ino != identity or state.st_size < position):
                identity, position = state.st_ino, 0
            if state is not None and state.st_size > position:
                with path.open("rb") as stream:
                    stream.seek(position)
                    shown, size = log.read(stream.read())
                position += size
                _print(shown)
            wait(POLL_S)
    except KeyboardInterrupt:
        return
