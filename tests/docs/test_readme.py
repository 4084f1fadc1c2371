"""The README says what is true: its commands run in order in one folder, and print what it shows."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from held import held_port

PORT = "8399"
ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETUP, VARIES = "set-up: run by .ci/run", "figures vary"
BLOCK = re.compile(rf"^(?:<!-- ({re.escape(SETUP)}|{VARIES}) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(mark == SETUP, language, body) for mark, language, body in BLOCK.findall(README)]
VARYING = [body for mark, _, body in BLOCK.findall(README) if mark == VARIES]


def bodies(language: str) -> list[str]:
    return [body for setup, found, body in BLOCKS if found == language and not setup]


def session(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, and what each prints."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def comparable(output: str) -> str:
    """Without what differs from run to run: seconds, column widths, the trailing space of titles, a scorer's figures."""
    if any(output.strip() in body or output.startswith("scorer sngp-") for body in VARYING):
        output = re.sub(r"sngp-\w+|[+-]?\d[\d.,]*", "#", output)
    output = re.sub(r"(seconds\s+│ )[\d.]+", r"\1-", output)
    return "\n".join(re.sub(r"[ ─]+", " ", line).strip() for line in output.strip().splitlines())


@pytest.fixture(scope="module")
def here():
    """The README's text with a free port instead of 8399, which others on this machine may be using."""
    with held_port() as port:
        yield lambda text: text.replace(PORT, str(port)).replace("judgeflow fake-judge ", f"judgeflow fake-judge --port {port} ")


@pytest.fixture(scope="module")
def printed(tmp_path_factory, here) -> list[str]:
    """Run every console command and Python block of the README in order, in one shell; return what each printed on stdout."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "judgeflow.toml").write_text(here(bodies("toml")[0]), encoding="utf-8")
    lines = [f'export PATH="{Path(sys.executable).parent}:$PATH"', "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT", "set -e"]
    for setup, language, body in BLOCKS:
        if language == "console" and not setup:
            lines += [f"printf '\\036'\n{here(command)}" for command, _ in session(body)]
        if language == "python":
            lines += ["printf '\\036'", f"python - <<'PYTHON'\n{body}PYTHON"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        # An id of its own names the judge whatever its port: the run is then the one that the README shows.
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "JUDGEFLOW_JUDGE__ID": f"http://127.0.0.1:{PORT}/v1 fake-judge"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\036")[1:]


def test_every_command_prints_what_the_readme_shows(printed):
    shown = []
    for setup, language, body in BLOCKS:
        if language == "console" and not setup:
            shown += [output for _, output in session(body)]
        if language == "text":
            shown.append(body)
    assert len(shown) == len(printed) >= 5
    assert [comparable(output) for output in printed] == [comparable(output) for output in shown]


def test_the_configuration_is_complete_and_accepted(tmp_path):
    from judgeflow import load_config

    whole, more = bodies("toml")
    (tmp_path / "judgeflow.toml").write_text(whole, encoding="utf-8")
    assert load_config(tmp_path / "judgeflow.toml", environ={}).budget.requests == tomllib.loads(whole)["budget"]["requests"]
    (tmp_path / "judgeflow.toml").write_text(whole.replace('[routing]\npolicy = "always"\n', more), encoding="utf-8")
    assert load_config(tmp_path / "judgeflow.toml", environ={}).scorer.path == "scorer"


def test_set_up_blocks_are_what_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [line.partition("#")[0].strip() for setup, _, body in BLOCKS if setup for line in body.splitlines()]
    assert commands == ["make demo", "make test"]
    assert all(re.search(rf"^(\w+=\w+ )?{command}$", ci, re.MULTILINE) for command in commands)


def test_every_link_to_a_file_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert len(links) >= 5
    assert all((ROOT / link.partition("#")[0]).exists() for link in links)


def test_every_link_to_a_heading_leads_to_one():
    for link in re.findall(r"\]\(([^):]+\.md#[^)]+)\)", README):
        page, _, anchor = link.partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}, link
