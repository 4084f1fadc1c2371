"""`--set SECTION.KEY=VALUE`, for every verb that reads a configuration."""

from __future__ import annotations

from collections.abc import Sequence


def overrides(settings: Sequence[str] | None) -> dict[str, str]:
    """Return {"section.key": "value"}.  Raises `ConfigurationError` for anything else."""
    from judgeflow.errors import ConfigurationError

    found = {}
    for setting in settings or ():
        name, separator, value = setting.partition("=")
        if not separator:
            raise ConfigurationError(f"--set {setting}: expected SECTION.KEY=VALUE, for instance routing.policy=always")
        found[name.strip()] = value.strip()
    return found
