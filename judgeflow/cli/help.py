"""How help looks: verbs in groups, and examples that can be copied.

Contexts and formatters are click's, which typer brings along under names of its own that change: hence `Any`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

UNNAMED = "Commands"
EXAMPLE = "Example: "
_KEEP_LINES = "\b\n"
"""Before a paragraph: its lines stay as they are."""


class Verb(TyperCommand):
    """A command whose docstring ends in lines that begin with `Example: `, each of them kept on a line of its own."""

    def get_short_help_str(self, limit: int = 0) -> str:
        del limit
        return first_sentence(self.help or "")

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        del ctx
        return usage(self.params)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # so begins what pydantic says for typer
            raise

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        del ctx
        text = re.sub(rf"^(?={EXAMPLE})", _KEEP_LINES, inspect.cleandoc(self.help or ""), count=1, flags=re.MULTILINE)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text)


class GroupedVerbs(TyperGroup):
    """A group that lists its verbs under the headings that they are registered with, each with its whole first sentence."""

    def get_short_help_str(self, limit: int = 0) -> str:
        del limit
        return first_sentence(self.help or "")

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            verb = self.commands[name]
            heading = getattr(verb, "rich_help_panel", None) or UNNAMED
            headings.setdefault(heading, []).append((name, first_sentence(verb.help or "")))
        width = max(len(name) for name in self.commands)
        for heading, verbs in headings.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), sentence) for name, sentence in verbs])


def usage(params: Sequence[Any]) -> list[str]:
    """Return what stands behind a verb: its arguments, the options that it cannot do without, and that there are others."""
    arguments = [_argument(param) for param in params if param.param_type_name == "argument"]
    needed = [f"{param.opts[0]} {param.metavar or 'VALUE'}" for param in params if param.param_type_name == "option" and param.required]
    return [*arguments, *needed, "[OPTIONS]"]


def _argument(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return name if param.required else f"[{name}]"


def first_sentence(text: str) -> str:
    """Return what a docstring says first, without its full stop."""
    paragraph = " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())
    return re.split(r"\.(?:\s|$)", paragraph, maxsplit=1)[0]


def examples(text: str) -> list[str]:
    """Return the command lines of a docstring's examples."""
    return re.findall(rf"^{EXAMPLE}(.+)$", inspect.cleandoc(text), re.MULTILINE)
