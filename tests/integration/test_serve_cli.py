"""`judgeflow serve` as a user starts and ends it."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from typer.testing import CliRunner

from judgeflow.cli.app import app
from judgeflow.errors import ConfigurationError, JudgeflowError
from judgeflow.store import migrate

ASSETS = Path(__file__).resolve().parents[1] / "migration" / "assets"
TOKEN = "a token that nobody can guess"
ENDED = "ended: the page only reads, so there is nothing to lose"


def complaint(*arguments):
    """What `judgeflow serve` refuses to do."""
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert isinstance(result.exception, JudgeflowError), result.output
    return result.exception


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "verdicts.db"
    asyncio.run(migrate.upgrade(str(path)))
    return path


@contextlib.contextmanager
def serving(*arguments, environment=None):
    """A server in a process of its own, and where it says that it is."""
    command = [sys.executable, "-m", "judgeflow", "serve", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | (environment or {})) as process:
        try:
            line = process.stderr.readline()
            yield process, re.search(r"http://\S+", line)[0]
        finally:
            process.kill()


def test_options_that_are_about_trainers_only_want_route(database):
    result = CliRunner().invoke(app, ["serve", "--url", str(database), "--group-size", "4"])
    assert result.exit_code == 2
    assert "--group-size" in result.output
    assert "give --route too" in result.output


def test_ctrl_c_ends_it_at_once_although_a_page_is_listening(database):
    with serving("--url", database) as (process, address):
        host, port = re.match(r"http://([^:]+):(\d+)/", address).groups()
        with socket.create_connection((host, int(port)), timeout=300) as page:
            page.sendall(f"GET /events/runs HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert b"text/event-stream" in page.recv(4096)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=300) == 0
        assert process.stderr.read().splitlines() == [
            "ending: pages that are being read get 3 s at most; press Ctrl-C again to stop at once",
            ENDED,
        ]


@pytest.mark.slow
async def test_a_page_for_others_makes_a_token_up_shows_it_once_and_wants_it(database):
    with serving("--url", database, "--host", "0.0.0.0") as (process, address):
        base, token = re.match(r"http://[^:/]+(:\d+)/\?token=(\S+)", address).groups()
        assert len(token) >= 32
        async with aiohttp.ClientSession(f"http://127.0.0.1{base}") as browser:
            async with browser.get("/runs") as answer:
                assert answer.status == 401
            async with browser.get("/runs", headers={"Authorization": f"Bearer {token}"}) as answer:
                assert answer.status == 200
        process.terminate()
        assert process.wait(timeout=300) == 0
        assert token not in process.stderr.read()


@pytest.mark.slow
async def test_a_token_of_the_environment_is_never_printed(database):
    with serving("--url", database, "--token-env", "PAGE_TOKEN", environment={"PAGE_TOKEN": TOKEN}) as (process, address):
        assert TOKEN not in address
        async with aiohttp.ClientSession(address) as browser:
            async with browser.get("/runs", params={"token": TOKEN}, allow_redirects=False) as answer:
                assert answer.status == 303
        process.terminate()
        assert process.wait(timeout=300) == 0
        assert process.stderr.read().endswith(f"{ENDED}\n")


def test_a_port_that_is_taken_is_named_with_the_next_step(database):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = complaint("--url", database, "--port", port)
    assert isinstance(error, ConfigurationError)
    assert str(error) == f"127.0.0.1:{port} is taken by another program; choose another with --port, or --port 0 for a free one"


def test_a_database_that_cannot_be_shown_is_named_with_the_next_step(tmp_path):
    assert "create it with: judgeflow db upgrade" in str(complaint("--url", tmp_path / "missing.db"))
    assert not (tmp_path / "missing.db").exists()
    old = tmp_path / "old.db"
    shutil.copy(min(ASSETS.glob("*0001*.db")), old)
    assert re.search("has schema 0001.*; run: judgeflow db upgrade", str(complaint("--url", old)))
    (tmp_path / "garbage.db").write_bytes(b"no database at all" * 100)
    assert "it is damaged or no SQLite database" in str(complaint("--url", tmp_path / "garbage.db"))


def test_a_token_that_is_missing_or_short_is_refused_and_not_repeated(database, monkeypatch):
    wanted = ("--url", database, "--token-env", "PAGE_TOKEN")
    monkeypatch.delenv("PAGE_TOKEN", raising=False)
    assert "--token-env PAGE_TOKEN: the variable is not set; set it to 16 characters or more that nobody can guess" in str(
        complaint(*wanted)
    )
    monkeypatch.setenv("PAGE_TOKEN", "sesame")
    error = str(complaint(*wanted))
    assert "holds 6 characters" in error
    assert "sesame" not in error


def test_an_address_that_is_not_of_this_machine_is_refused(database):
    assert "cannot be listened on" in str(complaint("--url", database, "--host", "203.0.113.7"))
