"""docs/judges.md says what is true: its settings are accepted; `make test-judges` carries out what can be tried here."""

import ast
import re
import tomllib

import pytest
from recipes import PAGE, ROOT, blocks, sections
from typer.testing import CliRunner

from judgeflow.cli.app import app
from judgeflow.verdicts.prompt import parse_template

SETTINGS = [(heading, block) for heading in sections() for block in blocks(heading, "toml") if block.startswith("[judge]")]
SERVERS = {"OpenAI", "OpenRouter", "DeepSeek", "vLLM", "llama.cpp", "litellm proxy"}


@pytest.mark.parametrize(("heading", "block"), SETTINGS, ids=[heading for heading, _ in SETTINGS])
def test_the_settings_of_a_server_are_accepted_and_limit_what_a_run_may_cost(tmp_path, monkeypatch, heading, block):
    (tmp_path / "judgeflow.toml").write_text(f'{block}\n[routing]\npolicy = "always"\n')
    key = tomllib.loads(block)["judge"].get("api_key_env")
    monkeypatch.chdir(tmp_path)
    checked = CliRunner().invoke(app, ["config", "check"], env={key: "sk-1"} if key else {})
    assert checked.exit_code == 0, checked.output
    assert "judgeflow.toml is sound" in checked.output
    assert "nothing limits what a run may cost" not in checked.output


def test_every_server_has_its_settings_and_a_line_about_whether_it_was_tried():
    assert {heading for heading, _ in SETTINGS} == SERVERS
    table = PAGE.partition("| server | tried here |")[2].partition("\n\n")[0]
    linked = re.findall(r"\[([^]]+)\]\(#([^)]+)\)", table)
    assert {name for name, _ in linked} == SERVERS
    assert all(re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") == anchor for name, anchor in linked)


def test_the_template_for_small_models_and_the_program_can_be_read():
    (template,) = (block for block in blocks("llama.cpp", "toml") if not block.startswith("[judge]"))
    assert set(parse_template(template, "short.toml").verdicts) == {"[[A]]", "[[B]]"}
    ast.parse(blocks("llama.cpp", "python")[0])


def test_what_is_measured_is_measured_by_ci():
    assert "make test-judges" in blocks("Measured", "sh")[0]
    assert re.search(r"^make test-judges$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_the_page_can_be_found(page):
    assert re.search(r"\]\((docs/)?judges\.md\)", (ROOT / page).read_text(encoding="utf-8"))
