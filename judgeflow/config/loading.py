"""Reads settings: judgeflow.toml, then `JUDGEFLOW_SECTION__KEY` from the environment, then command-line overrides."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from judgeflow.complaints import Origin, depth_of, describe, model_of
from judgeflow.config.settings import NonEmpty
from judgeflow.config.whole import Config, keys_of, sections
from judgeflow.errors import ConfigurationError

ENVIRONMENT_PREFIX = "JUDGEFLOW_"
DEFAULT_FILE = "judgeflow.toml"

_HINTS: dict[tuple[str, ...], str] = {
    ("routing", "threshold"): "it should be 'adaptive' or a finite number",
    ("routing", "verdict_margin"): "it should be 'matched' or a number above 0",
}


@dataclass(frozen=True, slots=True)
class Settled:
    """A checked configuration, and where its values come from."""

    config: Config
    origin: Origin

    def origin_of(self, *where: str) -> str | None:
        """Return where a key was set, given by the names that lead to it: `file:line`, a variable or a flag; None for a default."""
        holder: Any = self.config
        for part in where[:-1]:
            holder = holder[part] if isinstance(holder, dict) else getattr(holder, part)
        return self.origin.of(where, len(where)) if holder is not None and where[-1] in holder.model_fields_set else None


def load_config(
    path: str | Path = DEFAULT_FILE,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read a configuration file, then the environment, then `overrides` ({"routing.policy": "always"}).

    Raises `ConfigurationError` naming the key, where it was set and what is accepted.
    """
    return settle(path, overrides, environ).config


def settle(
    path: str | Path = DEFAULT_FILE,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settled:
    """Read a configuration as `load_config` does, and remember where each value was set."""
    source = Path(path)
    text = _read(source)
    data = _parse(text, source)
    origins: dict[tuple[str, ...], str] = {}
    written = list(data["judges"]) if isinstance(data.get("judges"), dict) else []
    for where, raw, origin in _layers(os.environ if environ is None else environ, overrides or {}):
        _check_judge(where, written, origin)
        table: Any = data
        for part in where[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            break  # validation says that a section is expected
        table[where[-1]] = _value(raw, textual=where[-1] in _texts_of(where[:-1]))
        for depth in range(1, len(where)):
            origins.setdefault(where[:depth], origin)
        origins[where] = origin
    origins_of_all = Origin(source, text, origins)
    try:
        return Settled(Config.model_validate(data), origins_of_all)
    except ValidationError as error:
        problems = [describe(problem, Config, origins_of_all, _HINTS) for problem in error.errors()]
        raise ConfigurationError("\n".join(dict.fromkeys(problems))) from None


def _check_judge(where: tuple[str, ...], written: Sequence[str], origin: str) -> None:
    """Refuse a judge who is nearly one in the file: a slip of the pen would send questions to somebody else."""
    name = where[1] if where[0] == "judges" else None
    close = [] if name is None or name in written else difflib.get_close_matches(name, written, n=1)
    if close:
        raise ConfigurationError(f"{origin}: there is no [judges.{name}]; did you mean {close[0]}? Another judge needs a less similar name")


def _read(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        message = f'{source}: no such configuration file; a minimal one is\n\n[judge]\nmodel = "..."\n\n[routing]\npolicy = "always"'
        raise ConfigurationError(message) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{source}: cannot be read: {error}") from None


def _parse(text: str, source: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ConfigurationError(f"{source}{f':{line[1]}' if line else ''}: not valid TOML: {error}") from None


def _layers(environ: Mapping[str, str], overrides: Mapping[str, str]) -> list[tuple[tuple[str, ...], str, str]]:
    """(path of the key, raw value, where it was set), weakest first."""
    layers = []
    for name in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX)):
        path = _path_of(name.removeprefix(ENVIRONMENT_PREFIX).lower(), "__")
        if path is None:
            raise ConfigurationError(_not_a_setting(name))
        layers.append((path, environ[name], f"environment variable {name}"))
    for name, raw in overrides.items():
        path = _path_of(name, ".")
        if path is None:
            raise ConfigurationError(f"--set {name}: {_expected(name, '.', 'SECTION.KEY=VALUE, for instance routing.policy=always')}")
        layers.append((path, raw, f"--set {name}"))
    return layers


def _path_of(name: str, separator: str) -> tuple[str, ...] | None:
    """SECTION and KEY, or judges, NAME and KEY, or judges, NAME, limits and KEY; None for anything else."""
    section, separated, key = name.partition(separator)
    if section != "judges":
        return (section, key) if separated else None
    path = (section, *key.split(separator))
    return path if len(path) == depth_of(Config, path) and all(path) else None


def _expected(name: str, separator: str, usual: str) -> str:
    if name.lower().partition(separator)[0] != "judges":
        return f"expected {usual}"
    return f"expected {separator.join(('judges', 'NAME', 'KEY'))} or {separator.join(('judges', 'NAME', 'limits', 'KEY'))}"


def _not_a_setting(name: str) -> str:
    """What to say about a variable that has our prefix and names no section and key: it would go unnoticed."""
    short = name.removeprefix(ENVIRONMENT_PREFIX)
    if short.partition("__")[0] == "JUDGES":
        return (
            f"environment variable {name}: expected {ENVIRONMENT_PREFIX}JUDGES__NAME__KEY or {ENVIRONMENT_PREFIX}JUDGES__NAME__LIMITS__KEY"
        )
    known = [f"{section}__{key}".upper() for section in sections() if section != "judges" for key in keys_of(section)]
    close = difflib.get_close_matches(short.upper(), known, n=1, cutoff=0.55)
    hint = f"did you mean {ENVIRONMENT_PREFIX}{close[0]}?" if close else f"for instance {ENVIRONMENT_PREFIX}ROUTING__POLICY=always"
    return f"environment variable {name}: expected {ENVIRONMENT_PREFIX}SECTION__KEY, with two underscores; {hint}"


def _value(raw: str, *, textual: bool) -> Any:
    """Read a value as TOML would, or a JSON object; what is neither is a string, and so is everything where only a text will do."""
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = _json_object(raw)
    return raw if textual and not isinstance(value, str) else value


def _json_object(raw: str) -> Any:
    """The JSON object that `raw` is; `raw` itself if it is none."""
    if not raw.lstrip().startswith("{"):
        return raw
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw


def _texts_of(section: Sequence[str]) -> set[str]:
    """Keys of a section whose value is a text: a run named 2024-05-01 is no date, a model named 4 no number."""
    model = model_of(Config, section)
    fields = model.model_fields.items() if model else ()
    return {key for key, field in fields if field.annotation is str or NonEmpty in get_args(field.annotation)}
