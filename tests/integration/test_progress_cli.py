"""Progress as a user sees it: in a real terminal, through a pipe, and beside a trainer's other processes."""

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import pytest
from held import held

from judgeflow.testing import arithmetic_pairs, serve_in_thread
from judgeflow.testing.pairs import pair_lines

CTRL_C = b"\x03"
BAR, CURSOR_BACK, UP, LINE_ERASED = "━", "\x1b[?25h", "\x1b[1A", "\x1b[2K"
DEADLINE_S = 300.0
# What a login shell does: the terminal becomes the session's own, so that Ctrl-C reaches the command.
IN_TERMINAL = "import fcntl, runpy, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); runpy.run_module('judgeflow', run_name='__main__')"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "OMP_NUM_THREADS": "1"}


@dataclass
class Shown:
    code: int
    screen: str

    @property
    def left(self) -> str:
        """What stands on the screen after the bar, whose line is erased."""
        return self.screen.rpartition(CURSOR_BACK)[2].replace(f"\r{UP}{LINE_ERASED}", "", 1)


def on_terminal(folder, *arguments, keys=(), code=IN_TERMINAL, **environment):
    """Run judgeflow in a terminal of its own; `keys` are (what to wait for on the screen, what to press then, or to do)."""
    ours, its = pty.openpty()
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(
        command, cwd=folder, stdin=its, stdout=its, stderr=its, start_new_session=True, env=ENVIRONMENT | environment
    )
    os.close(its)
    try:
        screen = read(ours, list(keys))
        return Shown(process.wait(timeout=DEADLINE_S), screen)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read(terminal, keys):
    screen, ends = b"", time.monotonic() + DEADLINE_S
    with contextlib.suppress(OSError):  # so Linux says that nobody has the other end any more
        while time.monotonic() < ends:
            if select.select([terminal], [], [], 1.0)[0]:
                screen += os.read(terminal, 65536)
            if keys and re.search(keys[0][0].encode(), screen):
                _, then = keys.pop(0)
                then() if callable(then) else os.write(terminal, then)
    return screen.decode()


def through_pipes(folder, *arguments, **environment):
    command = [sys.executable, "-m", "judgeflow", *arguments]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


@pytest.fixture
def judge():
    """A judge of 24 pairs that answers half of the questions, and the others when it is let go."""
    with serve_in_thread(held(arithmetic_pairs(24), answers=24)) as judge:
        yield judge


@pytest.fixture
def folder(tmp_path, judge):
    """The pairs, and a configuration with that judge."""
    (tmp_path / "pairs.jsonl").write_bytes(b"".join(pair_lines(arithmetic_pairs(24))))
    server = f'[judge]\nbase_url = "{judge.base_url}"\nmodel = "fake-judge"\n[limits]\nmax_in_flight = 4\n'
    (tmp_path / "judgeflow.toml").write_text(f'{server}[budget]\nrequests = 100\n[routing]\npolicy = "always"\n')
    return tmp_path


def let_go_after_a_second(judge):
    """Let a judge go when it has kept a run waiting for a second: from then on whatever happens is a reason for a line."""

    def wait():
        moment = threading.Event()
        while judge.statistics.requests < 24 + 4:
            moment.wait(0.02)
        moment.wait(1.1)
        judge.let_go()

    threading.Thread(target=wait, daemon=True).start()


ROUTE = ("route", "pairs.jsonl", "--out", "outcomes.jsonl")
HALFWAY = "24/100 calls, 4 in flight"  # the judge has answered what it answers by itself


def test_a_bar_tells_pairs_speed_share_budget_and_calls_in_flight_and_leaves_nothing_behind(folder, judge):
    bar = rf"pairs.*{BAR}.* \d+/24, [\d.,]+/s, \d:\d\d left, judged 100%, \d+/100 calls, [1-4] in flight"
    shown = on_terminal(folder, *ROUTE, keys=[(bar, judge.let_go)], NO_COLOR="1")
    assert shown.code == 0
    assert re.search(bar, shown.screen)
    assert BAR not in shown.left
    assert f"{CURSOR_BACK}\r{UP}{LINE_ERASED}" in shown.screen
    assert "run " in shown.left
    assert not re.search(r"\x1b\[3\d", shown.screen)
    # What is written to stderr meanwhile stands above the bar, on a line of its own.
    written = [line for line in re.split(r"[\r\n]+|\x1b\[2K|\x1b\[1A", shown.screen) if "created new" in line]
    assert written == ["created new verdict database judgeflow.db"]


def test_ctrl_c_ends_the_bar_and_its_words_stand_on_lines_of_their_own(folder, judge):
    shown = on_terminal(folder, *ROUTE, keys=[(HALFWAY, CTRL_C), ("stopping", judge.let_go)])
    assert shown.code == 130
    assert BAR not in shown.left
    assert re.search(r"^interrupted: \d+ of 24 pairs are decided", shown.left, re.MULTILINE)


@pytest.mark.slow
def test_two_ctrl_cs_and_an_error_give_the_terminal_back_too(folder, judge):
    left = on_terminal(folder, *ROUTE, keys=[(HALFWAY, CTRL_C), ("stopping", CTRL_C)])
    assert (left.code, BAR in left.left) == (130, False)
    assert "left: the replies of 4 requests in flight are lost" in left.screen
    judge.let_go()
    refused = on_terminal(folder, *ROUTE, "--set", "judge.model=another")
    assert (refused.code, BAR in refused.left) == (1, False)
    assert re.search(r"^judgeflow: stopped: ", refused.left, re.MULTILINE)


def test_without_a_terminal_whole_lines_come_now_and_then_and_stdout_is_one_object(folder, judge):
    let_go_after_a_second(judge)
    done = through_pipes(folder, *ROUTE, "--json")
    assert json.loads(done.stdout)["pairs"] == 24
    assert not re.search(r"[\r\x1b]", done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("pairs ")]
    assert 1 <= len(lines) <= 6
    whole = r"pairs \d+/24(, [\d.,]+/s)?(, \d:\d\d left)?(, judged \d+%)?, \d+/100 calls, \d in flight"
    assert all(re.fullmatch(whole, line) for line in lines)
    assert lines[-1].startswith("pairs 24/24")


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "flags"), [({"RANK": "1", "LOCAL_RANK": "0"}, ()), ({"RANK": "0"}, ("--no-progress",))])
def test_other_ranks_and_no_progress_say_nothing_of_it(folder, judge, environment, flags):
    judge.let_go()
    shown = on_terminal(folder, *ROUTE, "--set", "limits.max_in_flight=64", *flags, **environment)
    assert shown.code == 0
    assert BAR not in shown.screen
    assert "in flight" not in shown.screen


@pytest.mark.slow
def test_a_dumb_terminal_gets_lines(folder, judge):
    let_go_after_a_second(judge)
    shown = on_terminal(folder, *ROUTE, TERM="dumb")
    assert "\x1b[" not in shown.screen
    assert re.search(r"^pairs 24/24", shown.screen, re.MULTILINE)


@pytest.mark.slow
def test_a_terminated_command_gives_the_terminal_back(tmp_path):
    code = """
import os, signal
from judgeflow.cli.progress import activity
with activity() as tell:
    tell("working", 1, 2)
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
"""
    shown = on_terminal(tmp_path, code=code)
    assert (shown.code, BAR in shown.screen, shown.left) == (143, True, "")


def judged(folder):
    """Recorded verdicts and scores of 300 pairs."""
    pairs = arithmetic_pairs(300)
    with (folder / "judged.jsonl").open("w") as file:
        for number, pair in enumerate(pairs):
            record = {"prompt": pair.prompt, "response_a": pair.response_a, "response_b": pair.response_b, "label": pair.label}
            record["judge"] = {"j": {order: {"winner": pair.label} for order in ("order_ab", "order_ba")}}
            print(json.dumps(record | {"rm_scores": {"rm": [number % 7, 3]}}), file=file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("import", "judged.jsonl"), "judged.jsonl"),
        (("replay", "judged.jsonl", "--resamples", "100", "--tokens-per-call", "10,1", "--latency", "1"), "playing"),
        (("export", "--out", "p.jsonl"), "exporting"),
    ],
)
def test_verbs_over_data_show_a_bar_that_goes_away(tmp_path, command, named):
    judged(tmp_path)
    if command[0] == "export":
        assert through_pipes(tmp_path, "import", "judged.jsonl").returncode == 0
    shown = on_terminal(tmp_path, *command)
    assert shown.code == 0, shown.screen
    assert re.search(rf"{named}\S* .*{BAR}", shown.screen)
    assert BAR not in shown.left


@pytest.mark.slow
def test_training_tells_steps_and_losses_and_ctrl_c_gives_the_terminal_back(tmp_path):
    (tmp_path / "pairs.jsonl").write_bytes(b"".join(pair_lines(arithmetic_pairs(300))))
    train = ("train", "pairs.jsonl", "--out", "scorer", "--max-tokens", "64", "--epochs", "60", "--evaluate-every", "4")
    shown = on_terminal(tmp_path, *train, keys=[("accuracy 0.", CTRL_C)])
    assert shown.code == 130
    assert re.search(rf"training .*{BAR}.* \d+/\d+, [\d.]+/s, \d:\d\d left, loss \d\.\d+, held out \d\.\d+, accuracy \d\.\d+", shown.screen)
    assert BAR not in shown.left
    assert re.search(r"^interrupted: ", shown.left, re.MULTILINE)


def test_a_run_whose_messages_nobody_reads_any_more_goes_on_to_its_end(folder, judge):
    let_go_after_a_second(judge)
    command = [sys.executable, "-m", "judgeflow", "route", "pairs.jsonl", "--out", "outcomes.jsonl"]
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as route:
        route.stderr.close()
        assert route.wait(timeout=DEADLINE_S) in {0, 120}  # 120: Python could not flush stderr when it ended
    assert len((folder / "outcomes.jsonl").read_text().splitlines()) == 24
