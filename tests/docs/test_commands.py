"""Every verb explains itself: by `--help`, by a page whose tables are the command line's own, and by examples that it takes."""

import re
import shlex
import subprocess
import sys

import pytest
from make_commands import FOLDER, INDEX, MAKER, TREE, page_of, pages, skeleton, verbs
from typer.testing import CliRunner

from judgeflow.cli.app import app
from judgeflow.cli.help import examples, first_sentence

ROOT = FOLDER.parents[1]
VERBS = dict(verbs())
NAMED = [pytest.param(path, command, id=" ".join(path)) for path, command in VERBS.items()]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def parse(line):
    """Let the real parser take a command line, and do nothing with it."""
    words = shlex.split(re.split(r" [&|>]", line)[0])
    while words[0] != "judgeflow":
        assert re.fullmatch(r"[A-Z_]+=.*", words.pop(0)), line
    command, words = TREE, words[1:]
    while hasattr(command, "commands") and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    with command.make_context("judgeflow", words, resilient_parsing=command is TREE):
        pass


@pytest.mark.parametrize(("path", "command"), NAMED)
def test_help_says_what_a_verb_is_for_and_shows_an_example_that_it_takes(path, command):
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert first_sentence(command.help) in " ".join(shown.output.split())
    found = examples(command.help)
    assert found, f"judgeflow {' '.join(path)}: its docstring needs a line `Example: judgeflow {' '.join(path)} ...`"
    for example in found:
        assert f"Example: {example}\n" in shown.output  # on one line, so that it can be copied
        assert re.fullmatch(rf"([A-Z_]+=\S+ )?judgeflow {' '.join(path)}( .*)?", example)
        parse(example)


def test_an_option_that_is_not_there_would_be_found():
    with pytest.raises(Exception, match="No such option"):
        parse("judgeflow route pairs.jsonl --out o.jsonl --nonsense")
    with pytest.raises(Exception, match="is not one of"):
        parse("judgeflow replay judged.jsonl --policy nonsense")


@pytest.mark.parametrize(("path", "command"), NAMED)
def test_every_verb_has_a_page_with_an_introduction_and_exit_codes(path, command):
    page = page_of(path)
    assert page.exists(), f"judgeflow {path[0]} has no page: run `{MAKER}`, then write the introduction of {page.relative_to(ROOT)}"
    text = page.read_text(encoding="utf-8")
    assert skeleton(path, command) not in text, f"{page.relative_to(ROOT)} waits for an introduction of judgeflow {' '.join(path)}"
    assert re.search(r"Exit codes: 0\b", text), f"{page.relative_to(ROOT)} does not say what the exit codes mean"


def test_the_tables_are_those_of_the_command_line():
    stale = [page.name for page, text in pages().items() if not page.exists() or page.read_text(encoding="utf-8") != text]
    assert stale == [], f"the command line has changed: run `{MAKER}`"
    assert {page.name for page in FOLDER.iterdir()} == {page.name for page in pages()}, "a page has no verb"


def test_all_pages_can_be_reached_from_the_readme():
    assert "](docs/commands/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((\w[\w-]*\.md)\)", (FOLDER / INDEX).read_text(encoding="utf-8"))
    assert {INDEX, *linked} == {page.name for page in FOLDER.iterdir()}


@pytest.mark.parametrize("page", sorted(FOLDER.iterdir()), ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert all((FOLDER / link).exists() for link in links)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_of_the_documents_is_one_that_there_is(document):
    for line in re.findall(r"^(?:\$ |    )((?:[A-Z_]+=\S+ )?judgeflow .*)$", document.read_text(encoding="utf-8"), re.MULTILINE):
        parse(line)


def test_verbs_are_grouped_and_whole_sentences_shown():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    headings = re.findall(r"^(\w[\w ]*):$", shown, re.MULTILINE)
    assert headings[:6] == ["Options", "Begin", "Have a scorer", "Ask the judge", "Keep verdicts", "Test"]
    assert "..." not in shown.partition("Begin:")[2]


@pytest.mark.parametrize("arguments", [(), ("route", "--help"), ("db",)])
def test_help_loads_nothing_that_only_work_needs(arguments):
    heavy = (
        "torch transformers sqlalchemy alembic aiosqlite aiohttp numpy tiktoken orjson structlog asyncio rich.progress matplotlib pyarrow"
    )
    script = f"""
import sys
from judgeflow.cli.app import app
try:
    app({list(arguments)!r})
except SystemExit:
    pass
print("loaded:", *[name for name in {heavy.split()!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[-1].strip() == "loaded:"
