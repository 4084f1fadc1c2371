"""Processes of one machine elect a service: one of them starts it, all use it, and whoever is killed, the others carry on."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from held import held

from judgeflow.client import elect
from judgeflow.client.meeting import LARGEST_LOG, Address, Meeting
from judgeflow.config import load_config
from judgeflow.errors import ConfigurationError, ServiceError
from judgeflow.testing import FakeJudge, JudgeLimits, arithmetic_pairs, serve_in_thread

PAIRS = arithmetic_pairs(100)
IN_FLIGHT, LIMIT = 4, 60
CONFIG = """
[run]
directory = "{folder}"
[judge]
base_url = "{url}"
model = "fake-judge"
[limits]
requests_per_minute = {limit}
window_s = 1.0
margin_s = 0.5
max_in_flight = {in_flight}
[routing]
policy = "always"
"""
STARTED = "started a service for the processes of this machine"
WORKER = """
import logging, sys
from judgeflow.client import elect
from judgeflow.testing import arithmetic_pairs
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
pairs = arithmetic_pairs(100)
with elect("judgeflow.toml") as client:
    for step in range(5):
        result = client.route_sync(pairs[20 * step : 20 * step + 20])
        print("routed", [outcome.choice for outcome in result.outcomes], flush=True)
"""


def configured(folder, url="http://127.0.0.1:9/v1", more=""):
    (folder / "judgeflow.toml").write_text(CONFIG.format(folder=folder, url=url, limit=LIMIT, in_flight=IN_FLIGHT) + more, encoding="utf-8")
    return load_config(folder / "judgeflow.toml")


def moment():
    threading.Event().wait(0.02)


# Where they meet


@pytest.fixture
def meeting(tmp_path):
    return Meeting.of(configured(tmp_path))


def test_one_holds_the_office_until_its_last_descriptor_is_closed(meeting):
    office = meeting.office()
    assert meeting.office() is None
    inherited = os.dup(office.descriptor)
    office.close()
    assert meeting.office() is None
    os.close(inherited)
    meeting.office().close()


def test_a_service_is_needed_as_long_as_somebody_attends(meeting):
    first, second = meeting.attend(), meeting.attend()
    first.close()
    assert meeting.deserted() is None
    second.close()
    second.close()
    empty = meeting.deserted()
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(meeting.attend)
        assert not late.done()
        empty.close()
        late.result(60).close()


def test_an_address_can_be_read_by_its_user_only_and_withdrawn(meeting):
    meeting.attend().close()
    assert meeting.address() is None
    address = Address(url="http://127.0.0.1:1", token="secret", pid=1)
    meeting.announce(address)
    assert meeting.address() == address
    assert {stat.S_IMODE(path.stat().st_mode) for path in meeting.folder.iterdir()} == {0o600}
    assert stat.S_IMODE(meeting.folder.stat().st_mode) == 0o700
    meeting.withdraw()
    meeting.withdraw()
    assert meeting.address() is None


def test_an_address_is_never_written_to_a_file_that_was_there(meeting, tmp_path):
    meeting.attend().close()
    theirs = tmp_path / "theirs"
    theirs.write_text("")
    (meeting.folder / "address.new").symlink_to(theirs)
    meeting.announce(Address(url="http://127.0.0.1:1", token="secret", pid=1))
    assert theirs.read_text() == ""
    assert meeting.address().token == "secret"


@pytest.mark.parametrize("left", ["", "{", '{"url": "http://127.0.0.1:1"}'])
def test_an_address_that_was_not_written_to_its_end_is_none(meeting, left):
    meeting.attend().close()
    (meeting.folder / "address.json").write_text(left)
    assert meeting.address() is None


def test_a_long_log_is_put_aside_and_only_the_last_one_is_kept(meeting):
    meeting.turn_log()  # there is none
    meeting.attend().close()
    for text in ("first", "second"):
        meeting.log.write_text(text + " " * LARGEST_LOG)
        meeting.turn_log()
    assert not meeting.log.exists()
    assert meeting.log.with_name("service.log.1").read_text().startswith("second")
    meeting.log.write_text("third")
    meeting.turn_log()
    assert meeting.log.read_text() == "third"


def test_a_folder_that_others_can_write_to_is_refused(meeting):
    meeting.folder.mkdir(parents=True)
    meeting.folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="is no folder of yours alone"):
        meeting.office()
    meeting.folder.chmod(0o700)
    meeting.office().close()


def test_only_who_has_the_same_settings_meets(tmp_path):
    folders = [Meeting.of(configured(tmp_path, more=more)).folder for more in ("", "", "[budget]\nrequests = 5\n")]
    (tmp_path / "other").mkdir()
    folders.append(Meeting.of(configured(tmp_path / "other")).folder)
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3


def test_a_folder_that_cannot_be_used_is_told_with_what_to_do_instead(tmp_path):
    (tmp_path / ".judgeflow").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be locked .* Start judgeflow serve --route and give its address instead"):
        Meeting.of(configured(tmp_path)).attend()


# What they have in common


@contextlib.contextmanager
def workers(folder, logs):
    """Start a worker for each log, which gets what it says."""
    with contextlib.ExitStack() as stack:
        programs = []
        for log in logs:
            command, told = [sys.executable, "-c", WORKER], stack.enter_context(log.open("w"))
            programs.append(stack.enter_context(subprocess.Popen(command, cwd=folder, stdout=told, stderr=subprocess.STDOUT)))
            stack.callback(programs[-1].kill)
        yield programs


@pytest.mark.slow
def test_of_several_processes_one_starts_a_service_and_whoever_is_killed_the_others_carry_on(tmp_path, tmp_path_factory):
    limits = JudgeLimits(requests_per_minute=LIMIT, window_s=1.0)
    logs = [tmp_path_factory.mktemp("logs") / name for name in ("victim", "other", "another")]

    def told():
        return "".join(log.read_text() for log in logs)

    with serve_in_thread(held(PAIRS, limits=limits, answers=60)) as judge:
        meeting = Meeting.of(configured(tmp_path, judge.base_url))
        with workers(tmp_path, logs) as programs:
            victim = programs[0]
            while judge.statistics.requests < 60 + IN_FLIGHT:
                moment()
            first, judge.answers = meeting.address(), 110
            os.kill(first.pid, signal.SIGKILL)
            while judge.statistics.requests < 110 + IN_FLIGHT or told().count(STARTED) < 2:
                moment()
            second = meeting.address()
            victim.kill()
            judge.let_go()
            ends = [program.wait(300) for program in programs]
        while (office := meeting.office()) is None:
            moment()
        office.close()
        stats = judge.stats()
    assert ends == [-9, 0, 0], told()
    assert first.pid != second.pid
    assert told().count(STARTED) == 2
    routed = [[line for line in log.read_text().splitlines() if line.startswith("routed")] for log in logs[1:]]
    assert len(routed[0]) == 5
    assert routed[0] == routed[1]
    times = [question["requests"] for question in stats["questions"].values()]
    assert len(times) == 2 * len(PAIRS)
    assert sum(times) - len(times) <= IN_FLIGHT  # whose replies were on their way when the service died
    assert stats["provoked_429"] == 0  # the sum of all, and of both services, has passed no limit
    assert sorted(path.name for path in tmp_path.iterdir()) == [".judgeflow", "judgeflow.db", "judgeflow.toml"]  # closed: no log is left


@pytest.mark.slow
def test_a_service_that_died_is_told_of_when_it_is_started_again(tmp_path, caplog):
    with serve_in_thread(FakeJudge.from_pairs(PAIRS)) as judge, elect(configured(tmp_path, judge.base_url)) as client:
        client.route_sync(PAIRS[:2])
        os.kill(Meeting.of(configured(tmp_path, judge.base_url)).address().pid, signal.SIGKILL)
        client.route_sync(PAIRS[:4])
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "the service has ended before its clients; started a service" in record.getMessage()


@pytest.mark.slow
def test_a_service_that_cannot_be_started_is_told_to_everybody_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    configured(tmp_path)
    text = (tmp_path / "judgeflow.toml").read_text().replace('model = "fake-judge"', 'model = "fake-judge"\napi_key_env = "NO_SUCH_KEY"')
    (tmp_path / "judgeflow.toml").write_text(text)
    with elect(tmp_path / "judgeflow.toml") as first, elect(tmp_path / "judgeflow.toml") as second:
        for client in (first, second):
            with pytest.raises(
                ServiceError, match=r"could not be started: .*the environment variable NO_SUCH_KEY is not set.*service\.log"
            ):
                client.route_sync(PAIRS[:1])
    log = Meeting.of(load_config(tmp_path / "judgeflow.toml")).log.read_text()
    assert re.search(r"Z judgeflow: .*NO_SUCH_KEY is not set", log)
    assert "Traceback" not in log  # it is no mistake of judgeflow's


def test_mistakes_of_a_configuration_are_told_at_once(tmp_path):
    (tmp_path / "judgeflow.toml").write_text("[rooting]\n")
    with pytest.raises(ConfigurationError, match="rooting"):
        elect(tmp_path / "judgeflow.toml")


# Processes that are forked


HOLDER = """
import os
from judgeflow.client.meeting import Meeting
from judgeflow.config import load_config


def is_open(descriptor):
    try:
        return bool(os.fstat(descriptor))
    except OSError:
        return False

meeting = Meeting.of(load_config("judgeflow.toml"))
attending, office = meeting.attend(), meeting.office()
born, may_end = os.pipe(), os.pipe()
child = os.fork()
if not child:
    os.close(may_end[1])
    os.write(born[1], b"+")
    os.read(may_end[0], 1)
    os._exit(sum(map(is_open, (attending.descriptor, office.descriptor))))
os.read(born[0], 1)
print("held by the parent:", meeting.office() is None, meeting.deserted() is None)
office.close()
attending.close()
print("held by the child:", meeting.office() is None, meeting.deserted() is None)
os.write(may_end[1], b"+")
print("descriptors of the child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_is_forked_holds_no_lock_of_its_parents_which_keeps_them(tmp_path):
    configured(tmp_path)
    assert program(tmp_path, HOLDER) == [
        "held by the parent: True True",
        "held by the child: False False",
        "descriptors of the child: 0",
    ]


def program(folder, code):
    """The lines that a program of ours prints; it must end well, and complain of nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


WORKERS = """
import os, sys, time
from judgeflow.client import elect
from judgeflow.client.meeting import Meeting
from judgeflow.config import load_config
from judgeflow.testing import arithmetic_pairs
pairs = arithmetic_pairs(100)
meeting = Meeting.of(load_config("judgeflow.toml"))
client = elect("judgeflow.toml")

def sources(pairs):
    return dict(client.route_sync(pairs).statistics.sources)

def forked(work, leave):
    said = os.pipe()
    child = os.fork()
    if not child:
        os.write(said[1], repr(work()).encode())
        leave(0)
    os.waitpid(child, 0)
    return os.read(said[0], 1000).decode()

print("parent:", sources(pairs[:5]))
first = meeting.address().pid
idle, may_end = os.pipe(), os.pipe()
if not os.fork():
    os.close(may_end[1])
    os.read(may_end[0], 1)  # a worker that asks nothing, for as long as its parent lives
    os._exit(0)
print("child:", forked(lambda: sources(pairs[:7]), os._exit))
print("a child that ends as programs do:", forked(lambda: (sources(pairs[:9]), client.close()), sys.exit))
print("a child that asks nothing:", forked(lambda: None, sys.exit))
print("parent:", sources(pairs[:9]), meeting.address().pid == first)
client.close()

def ended():
    while (office := meeting.office()) is None:
        time.sleep(0.01)
    office.close()

ended()
print("the service has ended, and the worker has not")
print("a child that asks first:", forked(lambda: (sources(pairs[:2]), client.close()), os._exit))
ended()
print("parent:", sources(pairs[:2]))
client.close()
"""


@pytest.mark.slow
def test_a_worker_that_is_forked_may_ask_and_one_that_asks_nothing_keeps_no_service_going(tmp_path):
    with serve_in_thread(FakeJudge.from_pairs(PAIRS)) as judge:
        configured(tmp_path, judge.base_url)
        lines = program(tmp_path, WORKERS)
        log = Meeting.of(load_config(tmp_path / "judgeflow.toml")).log.read_text()
    assert lines == [
        "parent: {'judge': 5}",
        "child: {'store': 5, 'judge': 2}",
        "a child that ends as programs do: ({'store': 7, 'judge': 2}, None)",
        "a child that asks nothing: None",
        "parent: {'store': 9} True",
        "the service has ended, and the worker has not",
        "a child that asks first: ({'store': 2}, None)",
        "parent: {'store': 2}",
    ]
    assert re.findall(r"process (\d+), begins", log)[0] in re.findall(r"process (\d+) has ended: it has no clients any more", log)


INHERITED = """
import os, sys
from judgeflow import Scheduler
from judgeflow.errors import UsageError
from judgeflow.store import MemoryStore
from judgeflow.config import RoutingConfig
from judgeflow.testing import FakeScorer, arithmetic_pairs
pairs = arithmetic_pairs(4)
scheduler = Scheduler(scorer=FakeScorer(pairs), store=MemoryStore(), routing=RoutingConfig(policy="never"))
scheduler.route_sync(pairs)
child = os.fork()
if not child:
    try:
        scheduler.route_sync(pairs)
    except UsageError as error:
        print(str(error).replace(str(os.getpid()), "CHILD").replace(str(os.getppid()), "PARENT"), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(len(scheduler.route_sync(pairs).outcomes), "outcomes")
scheduler.close()
"""


@pytest.mark.slow
def test_a_scheduler_is_not_used_by_a_process_that_was_forked_from_its_own(tmp_path):
    told, after = program(tmp_path, INHERITED)
    assert told == 'this was opened in process PARENT, and this is CHILD, forked from it: open one here, or start processes with "spawn"'
    assert after == "4 outcomes"
