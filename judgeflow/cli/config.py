"""`judgeflow config`: check a configuration, and show what holds and where each value was set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from judgeflow.cli.help import GroupedVerbs, Verb
from judgeflow.cli.options import Settings
from judgeflow.cli.overrides import overrides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from judgeflow.config import Config, Settled

app = typer.Typer(cls=GroupedVerbs, help="Check a configuration, or show what holds and why.", no_args_is_help=True, rich_markup_mode=None)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="Configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

DEFAULT = Path("judgeflow.toml")


@app.command(cls=Verb)
def check(config: ConfigFile = DEFAULT, settings: Settings = None, as_json: AsJson = False) -> None:
    """Check everything that can be checked without network: keys, values, templates, API keys, files.

    A mistake ends with exit code 2; what is allowed but seldom meant is told as a warning.

    Example: judgeflow config check --set routing.policy=always
    """
    from judgeflow.build import check_settings
    from judgeflow.config import load_config

    loaded = load_config(config, overrides(settings))
    check_settings(loaded)
    found = list(warnings(loaded))
    if as_json:
        _print_json({"config": str(config), "ok": True, "warnings": found})
        return
    for warning in found:
        print(f"warning: {warning}")
    print(f"{config} is sound")


def warnings(config: Config) -> Iterator[str]:
    """Yield what is allowed and seldom meant."""
    budget, routing = config.budget, config.routing
    unlimited = budget.requests is None and budget.tokens is None and budget.usd is None
    if unlimited and routing.policy != "never" and routing.max_share is None:
        yield "[budget]: nothing limits what a run may cost; set requests, tokens or usd"
    limits = {"limits": config.limits} | {f"judges.{name}.limits": judge.limits for name, judge in config.judges.items()}
    for section, each in limits.items():
        if each.requests_per_minute is None and each.tokens_per_minute is None:
            yield f"[{section}]: no rate limit is kept, so the judge's 429s are the only brake; set requests_per_minute, tokens_per_minute"
    if routing.audit_fraction == 0 and routing.policy in {"error", "uncertainty", "margin"}:
        yield "[routing] audit_fraction: is 0, so nobody will know how good the scorer is where the judge was not asked; 0.05 is a start"


@app.command(cls=Verb)
def show(config: ConfigFile = DEFAULT, settings: Settings = None, as_json: AsJson = False) -> None:
    """Show every setting with its value and where it was set: file and line, variable, flag, or by default.

    What is printed is TOML that may be used as a configuration file.

    Example: JUDGEFLOW_BUDGET__REQUESTS=500 judgeflow config show
    """
    from judgeflow.config import settle

    settled = settle(config, overrides(settings))
    if as_json:
        _print_json({".".join(where): _values(settled, where) for where in _sections(settled.config)})
        return
    for where in _sections(settled.config):
        print("\n".join(_section_lines(settled, where)))


def _sections(config: Config) -> Iterator[tuple[str, ...]]:
    """Yield the path of every section that is there."""
    for section in type(config).model_fields:
        if section != "judges" and getattr(config, section) is not None:
            yield (section,)
        for name in config.judges if section == "judges" else ():
            yield from ((section, name), (section, name, "limits"))


def _model_of(config: Config, where: tuple[str, ...]) -> Any:
    found: Any = config
    for part in where:
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


def _values(settled: Settled, where: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """{key: {"value", "origin"}} of one section; the origin of a default is "default"."""
    from judgeflow.config import LimitsConfig

    section = _model_of(settled.config, where)
    shown = section.model_dump()  # without passwords
    values = {key: shown[key] for key, value in section if not isinstance(value, LimitsConfig)}
    return {key: {"value": value, "origin": settled.origin_of(*where, key) or "default"} for key, value in values.items()}


def _section_lines(settled: Settled, where: tuple[str, ...]) -> Iterator[str]:
    yield f"[{'.'.join(where)}]"
    for key, entry in _values(settled, where).items():
        line = f"# {key} is not set" if entry["value"] is None else f"{key} = {toml(entry['value'])}"
        yield f"{line:<44} # {entry['origin']}" if entry["value"] is not None else line
    yield ""


def toml(value: Any) -> str:
    """Return a setting as TOML writes it; a table inline."""
    import json

    if isinstance(value, dict):
        inside = ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {toml(item)}" for key, item in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _print_json(value: dict[str, Any]) -> None:
    import json

    print(json.dumps(value, ensure_ascii=False))
