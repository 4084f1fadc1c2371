"""Writes the tables of docs/commands from the command line itself: `python tests/docs/make_commands.py`.

A page is written by hand but for what stands between `<!-- judgeflow VERB: made by ... -->` and `<!-- end -->`; a verb without a page
gets one that waits for an introduction.
"""

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from judgeflow.cli.app import app
from judgeflow.cli.help import examples, first_sentence

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "commands"
MAKER = "python tests/docs/make_commands.py"
INDEX = "README.md"
TREE = typer.main.get_command(app)


def verbs(command: Any = TREE, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb and sub-verb: its words, and its command."""
    for name, each in getattr(command, "commands", {}).items():
        if hasattr(each, "commands"):
            yield from verbs(each, (*path, name))
        else:
            yield (*path, name), each


def page_of(path: tuple[str, ...]) -> Path:
    """Sub-verbs share a page."""
    return FOLDER / f"{path[0]}.md"


def table(command: Any) -> str:
    """How a verb is called, and each argument and option: what it takes, its default, what it means."""
    hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    shown = [param for param in command.params if param.name in hints]
    arguments = [_row(param, hints[param.name]) for param in shown if param.param_type_name == "argument"]
    options = [_row(param, hints[param.name]) for param in shown if param.param_type_name == "option"]
    parts = []
    if arguments:
        parts += ["| argument | takes | default | meaning |", "|---|---|---|---|", *arguments, ""]
    return "\n".join([*parts, "| option | takes | default | meaning |", "|---|---|---|---|", *options])


def _row(param: Any, hint: Any) -> str:
    names = [param.metavar or param.name] if param.param_type_name == "argument" else [*param.opts, *param.secondary_opts]
    cells = (", ".join(f"`{name}`" for name in names), _takes(hint), _default(param), _plain(param.help))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _plain(text: str) -> str:
    return " ".join((text or "").split())


def _default(param: Any) -> str:
    if param.required:
        return "required"
    default = param.default
    if isinstance(default, bool):
        return f"`{(param.opts if default else param.secondary_opts)[0]}`" if param.secondary_opts else ""
    return "" if default is None or default == "" else f"`{default}`"


def _takes(hint: Any) -> str:
    """What stands behind an option: its choices, the kind of value with its range, or nothing for a flag."""
    kind, info = _parts(hint)
    choices = list(get_args(kind)) if get_origin(kind) is Literal else []
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = [each.value for each in kind]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if kind is bool:
        return ""
    if info.metavar and isinstance(info, typer.models.OptionInfo):
        return f"`{info.metavar}`"
    words = {int: "integer", float: "number", Path: "path", str: "text"}[kind]
    bounds = [f"≥ {info.min:g}"] if info.min is not None else []
    return " ".join([words, *bounds, *([f"≤ {info.max:g}"] if info.max is not None else [])])


def _parts(hint: Any) -> tuple[Any, Any]:
    """The type of one value, and what typer is told of it."""
    info = None
    while get_origin(hint) is not Literal and get_args(hint):
        if get_origin(hint) is Annotated:
            info = next(each for each in hint.__metadata__ if isinstance(each, typer.models.ParameterInfo))
        hint = next(each for each in get_args(hint) if each is not type(None))
    return hint, info


def begins(path: tuple[str, ...]) -> str:
    """The mark before what is made."""
    return f"<!-- judgeflow {' '.join(path)}: made by {MAKER} -->"


def block(path: tuple[str, ...], content: str) -> str:
    """What is made, between its marks."""
    return f"{begins(path)}\n{content}\n<!-- end -->"


def put(text: str, path: tuple[str, ...], content: str) -> str:
    """A page with its block as it should be; with a section for a verb that it does not have yet."""
    pattern = re.compile(rf"^{re.escape(begins(path))}\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        return pattern.sub(lambda _: block(path, content), text, count=1)
    return f"{text.rstrip()}\n\n{block(path, content)}\n"


def skeleton(path: tuple[str, ...], command: Any) -> str:
    """The beginning of a verb's page or section."""
    level = "#" * len(path)
    called = "\n".join(f"$ {example}" for example in examples(command.help or ""))
    return f"{level} judgeflow {' '.join(path)}\n\n{first_sentence(command.help or '')}.\n\n```console\n{called}\n```\n"


def index() -> str:
    """All verbs by what they are for, with links to their pages."""
    rows: dict[str, list[str]] = {}
    for name, command in TREE.commands.items():
        sentence = first_sentence(command.help or "")
        rows.setdefault(getattr(command, "rich_help_panel", None) or "Others", []).append(f"| [`{name}`]({name}.md) | {sentence} |")
    return "\n\n".join("\n".join([f"| {heading} | |", "|---|---|", *lines]) for heading, lines in rows.items())


def pages() -> dict[Path, str]:
    """Every page as it should be, from what is written by hand now."""
    made: dict[Path, str] = {}
    for path, command in verbs():
        page = page_of(path)
        text = made.get(page, page.read_text(encoding="utf-8") if page.exists() else "")
        if begins(path) not in text:
            head = f"# judgeflow {path[0]}\n\n" if not text and len(path) > 1 else ""
            text = f"{text}{head}" + ("\n" if text else "") + skeleton(path, command)
        made[page] = put(text, path, table(command))
    top = FOLDER / INDEX
    made[top] = put(top.read_text(encoding="utf-8") if top.exists() else "# Commands\n", ("VERB",), index())
    return made


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
