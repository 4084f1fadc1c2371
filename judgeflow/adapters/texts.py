"""What a trainer's batch holds, plain or conversational, as the texts that a judge reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from judgeflow.dialogue import is_conversational, prompt_of, response_of
from judgeflow.errors import UsageError
from judgeflow.types import Prompt


def check_lengths(prompts: Sequence[Any], **others: Any) -> None:
    """Raise `UsageError` for a column that has not one entry for each prompt."""
    for name, values in others.items():
        if values is not None and len(values) != len(prompts):
            raise UsageError(f"{name} has {len(values)} entries for {len(prompts)} prompts; expected is one for each")


def texts_of(prompts: Sequence[Any], completions: Sequence[Any]) -> tuple[list[Prompt], list[str]]:
    """Return what the judge is to read.  Raises `UsageError` naming what cannot be read, or is in another format than the rest."""
    for name, values in (("prompts", prompts), ("completions", completions)):
        kinds = [is_conversational(value) for value in values]
        if any(kinds) and not all(kinds):
            raise UsageError(
                f"{name}[{kinds.index(not kinds[0])}] is in another format than {name}[0]; expected are texts or messages, not both"
            )
    return _read("prompts", prompts, prompt_of), _read("completions", completions, response_of)


def _read(name: str, values: Sequence[Any], read: Callable[[object], Any]) -> list[Any]:
    texts = []
    for place, value in enumerate(values):
        try:
            texts.append(read(value))
        except ValueError as error:
            raise UsageError(f"{name}[{place}]: {error}") from None
    return texts
