"""Verdicts on a real PostgreSQL server: the command line, several processes, a server that goes away, and what it refuses."""

import asyncio
import functools
import json
import re
import subprocess
import sys
from dataclasses import replace

import asyncpg
import pytest
from held import held
from sqlalchemy import event, make_url, select
from typer.testing import CliRunner

from judgeflow import Scheduler
from judgeflow.cli.db import app
from judgeflow.config import Config, JudgeConfig, RoutingConfig
from judgeflow.errors import ConfigurationError, SchemaMismatch, StoreError, StoreUnavailable
from judgeflow.judges.client import HttpJudge
from judgeflow.keys import pair_keys, questions
from judgeflow.store import SqlStore, postgresql, schema
from judgeflow.store.check import check
from judgeflow.store.engines import database_at, normalise_url
from judgeflow.store.evidence import Evidence, EvidenceWriter, Known, Taken
from judgeflow.store.failures import explain
from judgeflow.store.queries import reading, summary
from judgeflow.store.upkeep import writing
from judgeflow.testing import FakeJudge, FakeScorer, ScriptedJudge, Watcher, arithmetic_pairs
from judgeflow.testing.store_contract import JUDGE, RUN, make_call, make_question, make_reservation, settle
from judgeflow.types import Cost, Message, Pair, Reply, Stock, Usage
from judgeflow.verdicts.prompt import load_template


@pytest.fixture
async def store(postgresql_url):
    store = await SqlStore.open(postgresql_url)
    await store.open_run(RUN, {}, JUDGE)
    yield store
    await store.aclose()


def db(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


async def execute(url, statement):
    """Run a statement beside judgeflow, as another program would."""
    address = make_url(url)
    connection = await asyncpg.connect(host=address.query["host"], user=address.username, database=address.database)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def unsound(url):
    return [finding for finding in await check(url) if not finding.ok]


# The command line


def test_the_verbs_of_the_database_work_on_a_server(empty_postgresql_url):
    url = empty_postgresql_url
    error = db("info", "--url", url).exception
    assert isinstance(error, SchemaMismatch)
    assert f"holds no verdict database yet; create it with: judgeflow db upgrade --url '{url}'" in str(error)
    assert json.loads(db("upgrade", "--url", url, "--json").stdout)["before"] is None
    assert "is up to date" in db("upgrade", "--url", url).stdout
    assert db("check", "--url", url).exit_code == 0
    found = json.loads(db("info", "--url", url, "--json").stdout)
    assert (found["path"], found["revision"]) == (url, schema.REVISIONS[-1])
    assert found["size"] > 0


async def start(folder, *settings):
    flags = [word for setting in settings for word in ("--set", setting)]
    command = (sys.executable, "-m", "judgeflow", "route", "pairs.jsonl", "--out", "out.jsonl", "--json", *flags)
    return await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)


def prepare(folder, server, url, pairs):
    lines = [json.dumps({key: getattr(pair, key) for key in ("id", "prompt", "response_a", "response_b")}) for pair in pairs]
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    judge = f'[judge]\nbase_url = "{server.base_url}"\nmodel = "fake-judge"\nid = "fake"\n'
    (folder / "judgeflow.toml").write_text(f'[run]\nname = "shared"\n{judge}[routing]\npolicy = "always"\n[store]\nurl = "{url}"\n')


async def test_route_keeps_its_verdicts_on_the_server_and_asks_nothing_twice(tmp_path, empty_postgresql_url):
    pairs = arithmetic_pairs(20)
    async with FakeJudge.from_pairs(pairs) as server:
        prepare(tmp_path, server, empty_postgresql_url, pairs)
        first = await start(tmp_path)
        out, said = await first.communicate()
        assert first.returncode == 0, said
        assert f"created new verdict database {empty_postgresql_url}" in said.decode()
        again = await start(tmp_path, "run.name=another")
        out, said = await again.communicate()
        assert again.returncode == 0, said
        assert json.loads(out)["sources"] == {"store": 20}
        assert server.statistics.requests == 40
    found = json.loads((await asyncio.to_thread(db, "info", "--url", empty_postgresql_url, "--json")).stdout)
    assert found["judges"][0]["calls"] == 40
    assert found["judges"][0]["tokens"] > 0
    assert [run["spent"]["requests"] for run in found["runs"]] == [40, 0]
    assert await unsound(empty_postgresql_url) == []


@pytest.mark.slow
async def test_two_processes_share_one_budget_and_what_either_has_stored_is_not_asked_again(tmp_path, postgresql_url):
    pairs, folders = arithmetic_pairs(60), [tmp_path / "one", tmp_path / "two"]
    async with FakeJudge.from_pairs(pairs, latency="uniform:0.01:0.05") as server:
        for folder, shown in zip(folders, (pairs[:30], pairs[30:]), strict=True):
            folder.mkdir()
            prepare(folder, server, postgresql_url, shown)
        processes = [await start(folder, "budget.requests=80") for folder in folders]
        ends = [await process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0, 0], ends
        run = (await summary(postgresql_url)).runs[0]
        assert (run.spent.requests, run.reserved) == (server.statistics.answered, Cost())
        assert 76 <= run.spent.requests <= 80
        prepare(folders[0], server, postgresql_url, pairs[::-1])
        rest = await start(folders[0])
        assert await rest.wait() == 0
        assert len(server.statistics.question_answers) == server.statistics.answered == 120
    assert await unsound(postgresql_url) == []


# A server that goes away


@pytest.mark.slow
async def test_a_server_that_is_stopped_and_started_during_a_run_is_announced_and_nothing_is_lost(postgresql_server, postgresql_url):
    pairs, seen = arithmetic_pairs(20), Watcher()
    async with held(pairs) as server:
        judge = HttpJudge(JudgeConfig(base_url=server.base_url, model="fake-judge"), load_template("default"))
        opened = functools.partial(SqlStore.open, postgresql_url)
        async with Scheduler(store=opened, judge=judge, routing=RoutingConfig(policy="always"), observers=[seen]) as scheduler:
            routing = asyncio.create_task(scheduler.route(pairs))
            while server.statistics.requests < 40:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(postgresql_server.stop)
            server.let_go()
            try:
                assert (await routing).statistics.statuses == {"store_error": 20}
            finally:
                await asyncio.to_thread(postgresql_server.ensure_postgres_running)
            step = await scheduler.route(pairs)
            assert step.statistics.sources == {"store": 20}
            assert server.statistics.requests == 40
    state = (await summary(postgresql_url)).runs[0]
    assert (state.spent.requests, state.reserved) == (40, Cost())
    (said,) = [fields["error"] for name, fields in seen.notices if name == "store_failed"]
    assert said.startswith(postgresql_url)
    assert re.search("cannot be reached|ended this connection|was lost", said)


async def test_a_connection_that_was_ended_while_it_was_idle_is_not_noticed(store, postgresql_url):
    await store.reserve(RUN, make_reservation("before"), Stock())
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'judgeflow' AND datname = current_database()"
    assert await execute(postgresql_url, ended)
    assert await store.read([b"?" * 32]) == {}
    assert await store.reserve(RUN, make_reservation("after"), Stock())


async def test_a_database_that_another_process_keeps_locked_is_told_and_reading_goes_on(postgresql_url, monkeypatch):
    monkeypatch.setitem(postgresql._WAIT, "lock_timeout", "50ms")
    store = await SqlStore.open(postgresql_url)
    await store.open_run(RUN, {}, JUDGE)
    writer = database_at(postgresql_url).writer()
    locked, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection):
        with connection.begin():
            loop.call_soon_threadsafe(locked.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result()

    holding = asyncio.create_task(writer.visit(hold))
    await locked.wait()
    with pytest.raises(StoreUnavailable, match="another process has kept it locked"):
        await store.reserve(RUN, make_reservation("r"), Stock())
    assert await store.read([b"?" * 32]) == {}
    release.set()
    await holding
    assert await store.reserve(RUN, make_reservation("r"), Stock())
    await writer.aclose()
    await store.aclose()


async def test_processes_that_create_one_database_at_the_same_time_do_not_disturb_each_other(empty_postgresql_url):
    stores = await asyncio.gather(*(SqlStore.open(empty_postgresql_url) for _ in range(3)))
    for store in stores:
        await store.open_run(RUN, {}, JUDGE)
        await store.aclose()
    assert (await summary(empty_postgresql_url)).rows["run"] == 1


# What a server refuses


async def error_of(url):
    with pytest.raises(StoreUnavailable) as caught:
        await SqlStore.open(url)
    return str(caught.value)


async def test_a_server_that_is_not_there_is_named_with_what_to_do(tmp_path):
    url = f"postgresql+asyncpg://me:secret@/verdicts?host={tmp_path}"
    said = await error_of(url)
    assert said.startswith(f"{database_at(url).url}: the PostgreSQL server cannot be reached")
    assert "start it, or check host and port" in said
    assert "secret" not in said
    assert "cannot be reached" in await error_of("postgresql://me@127.0.0.1:1/verdicts")


async def test_a_database_that_does_not_exist_is_named_with_what_to_do(postgresql_url):
    assert "the server has no such database; create it (createdb NAME)" in await error_of(postgresql_url.replace("/verdicts", "/missing"))


async def test_a_user_without_rights_is_told_before_anything_is_paid_for(postgresql_server, postgresql_url, empty_postgresql_url):
    postgresql_server.psql("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN;")
    for url in (empty_postgresql_url, postgresql_url):
        assert "this user may not do that; let the owner run" in await error_of(url.replace("postgres@", "stranger@"))


async def test_a_user_who_may_only_read_and_write_rows_can_route(postgresql_server, postgresql_url):
    postgresql_server.psql("DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN;")
    await execute(postgresql_url, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk")
    await execute(postgresql_url, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO clerk")
    store = functools.partial(SqlStore.open, postgresql_url.replace("postgres@", "clerk@"))
    judge, pairs = ScriptedJudge(), arithmetic_pairs(4)
    routing = RoutingConfig(policy="error", max_share=1.0)
    async with Scheduler(store=store, judge=judge, scorer=FakeScorer(), routing=routing) as scheduler:
        assert (await scheduler.route(pairs)).statistics.sources == {"judge": 4}
        assert (await scheduler.route(pairs)).statistics.sources == {"store": 4}


async def test_a_wrong_password_is_told_and_never_repeated(postgresql_server, postgresql_url):
    rules = postgresql_server.pgdata / "pg_hba.conf"
    before = rules.read_text()
    postgresql_server.psql("DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'right';")
    rules.write_text("local all guarded scram-sha-256\n" + before)
    postgresql_server.psql("SELECT pg_reload_conf();")
    try:
        said = await error_of(postgresql_url.replace("postgres@", "guarded:wr0ng@"))
        assert "does not let this user in; check user and password" in said
        assert "wr0ng" not in said
        right = postgresql_url.replace("postgres@", "guarded:right@")
        result = await asyncio.to_thread(db, "info", "--url", right, "--json")
        assert "right" not in result.stdout
        assert json.loads(result.stdout)["path"] == postgresql_url.replace("postgres@", "guarded@")
    finally:
        rules.write_text(before)
        postgresql_server.psql("SELECT pg_reload_conf();")


def test_a_full_disk_of_the_server_is_told():
    failure = explain("postgresql+asyncpg://host/db", asyncpg.DiskFullError("could not extend file"))
    assert isinstance(failure, StoreUnavailable)
    assert "the server's disk is full; free some space there" in str(failure)


async def test_a_database_that_cannot_hold_every_character_is_refused_before_anything_is_paid_for(postgresql_server, postgresql_url):
    postgresql_server.psql("CREATE DATABASE western ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;")
    url = make_url(postgresql_url).set(database="western").render_as_string()
    assert "texts of this database are LATIN1, but replies may hold any character; create one with" in await error_of(url)


async def test_tables_of_another_program_are_left_alone(empty_postgresql_url):
    await execute(empty_postgresql_url, "CREATE TABLE experiments (id integer)")
    with pytest.raises(SchemaMismatch, match=r"belongs to another program; choose another \[store\] url"):
        await SqlStore.open(empty_postgresql_url)


async def test_reading_cannot_change_anything(postgresql_url):
    with pytest.raises(StoreUnavailable, match="it can only be read"):
        async with reading(postgresql_url) as connection:
            await connection.execute(schema.run.delete())


# What is stored


@pytest.mark.parametrize("texts", [("one \x00", "two"), ("\x1a", "\x1a0"), ("\x00", "\x1a0"), ("\x1a1", "\x1a\x00\x1a0")], ids=ascii)
async def test_characters_that_the_server_refuses_come_back_and_keys_still_match(store, postgresql_url, texts):
    prompt = (Message(role="user", content="\x00 and \x1a?"),)
    pair = Pair(prompt=prompt, response_a=texts[0], response_b=texts[1])
    for question in questions(pair, pair_keys(pair), JUDGE.fingerprint):
        call = make_call(question, Reply(text=texts[0], reasoning=texts[1], model="\x00", request_id="\x1a", finish_reason="\x00"))
        await settle(store, question.nonce, question, call)
        assert await store.read([call.key]) == {call.key: call}
    async with reading(postgresql_url) as connection:
        bodies = set((await connection.execute(select(schema.text.c.body).where(~schema.text.c.conversational))).scalars())
    assert bodies == set(texts)
    assert await unsound(postgresql_url) == []


async def test_a_run_may_be_called_anything(store):
    for name in ("\x00", "\x1a0", "it's"):
        await store.open_run(name, {"note": "\x00"}, JUDGE)
        assert (await store.run_state(name)).name == name


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text="[[A]]", finish_reason={"type": "stop"}),
        Reply(text="[[A]]", usage=Usage(prompt=2**63 + 5)),
        Reply(text="[[A]]", usd=float("nan")),
    ],
    ids=["type", "overflow", "nan"],
)
async def test_a_value_that_no_column_takes_is_an_error_of_its_own_write_and_its_neighbours_are_kept(store, reply):
    asked = [make_question(number) for number in range(3)]
    calls = [make_call(asked[0]), make_call(asked[1], reply), make_call(asked[2])]
    writes = [
        store.settle(RUN, make_reservation(f"r{n}"), question, call) for n, (question, call) in enumerate(zip(asked, calls, strict=True))
    ]
    first, refused, last = await asyncio.gather(*writes, return_exceptions=True)
    assert (first, last) == (None, None)
    assert type(refused) is StoreError
    assert "cannot hold a value" in str(refused)
    assert (await store.run_state(RUN)).spent.requests == 2


async def test_a_reply_of_a_judge_that_no_run_registered_is_refused(store):
    question = make_question()
    with pytest.raises(StoreError, match="open_run registers the run and its judge"):
        await store.settle(RUN, make_reservation("r"), question, replace(make_call(question), judge=b"?" * 32))


async def test_a_reservation_that_another_process_has_closed_is_counted_once(store, postgresql_url):
    mine, other = make_reservation("mine"), make_reservation("other")
    await store.reserve(RUN, mine, Stock())
    await store.reserve(RUN, other, Stock())
    elsewhere = await SqlStore.open(postgresql_url)
    await elsewhere.open_run(RUN, {}, JUDGE)
    await elsewhere.charge(RUN, mine)
    await elsewhere.aclose()
    await asyncio.gather(store.charge(RUN, mine), store.charge(RUN, other))
    state = await store.run_state(RUN)
    assert (state.spent, state.reserved) == (mine.cost + other.cost, Cost())


async def test_recorded_evidence_is_taken_in_once(postgresql_url):
    writer = await EvidenceWriter.open(postgresql_url)
    pairs = [Pair(prompt="Which\x00?", response_a=f"a{number}", response_b="b") for number in range(300)]
    batch = [Evidence(pair=pair, keys=pair_keys(pair), label=Known(preferred=1, source="people")) for pair in pairs]
    for _ in range(2):
        await asyncio.to_thread(writer.write, batch)
    await asyncio.to_thread(writer.close)
    assert writer.taken["label"] == Taken(new=300, known=300)
    assert (await summary(postgresql_url)).rows["pair"] == 300
    assert await unsound(postgresql_url) == []


async def test_many_keys_are_read_as_one_parameter(store):
    seen = []
    event.listen(store._reader.engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[3]))
    await store.read([make_question(number).call_key for number in range(500)])
    assert [len(parameters) for parameters in seen] == [1]


async def test_rows_that_refer_to_missing_ones_are_found(store, postgresql_url):
    await settle(store, "r", make_question(), make_call(make_question()))
    await execute(postgresql_url, "ALTER TABLE judge DISABLE TRIGGER ALL")
    await execute(postgresql_url, "DELETE FROM judge")
    await execute(postgresql_url, "ALTER TABLE judge ENABLE TRIGGER ALL")
    assert [finding.detail for finding in await unsound(postgresql_url)] == ["1 row of call refers to a missing row of judge"]


async def test_whoever_is_interrupted_does_not_wait_for_a_long_statement_which_changes_nothing(store, postgresql_url):
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def work(connection):
        with connection.begin():
            connection.execute(schema.run.delete())
            loop.call_soon_threadsafe(begun.set)
            connection.exec_driver_sql("SELECT pg_sleep(300)")

    async with writing(postgresql_url) as upkeep:
        visit = asyncio.create_task(upkeep.visit(work))
        await begun.wait()
        upkeep.interrupt()
        with pytest.raises(asyncio.CancelledError):
            await visit
        assert await upkeep.visit(lambda connection: connection.execute(select(schema.run.c.name)).scalar()) == RUN


# Addresses


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me@host/db", "postgresql+asyncpg://me@host/db"),
        ("postgres://me:secret@host:5433/db", "postgresql+asyncpg://me:secret@host:5433/db"),
        ("postgresql+asyncpg://me@/db?host=/run/pg", "postgresql+asyncpg://me@/db?host=%2Frun%2Fpg"),
        ("postgresql://host/db?sslmode=require", "postgresql+asyncpg://host/db?ssl=require"),
    ],
)
def test_usual_ways_to_write_an_address_are_understood(url, expected):
    assert normalise_url(url, "runs") == expected
    assert "secret" not in database_at(url).name + database_at(url).url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me@host", "names no database"),
        ("postgresql://me@host/db?options=x", "options is no option of an address; accepted are host"),
        ("postgresql://me:secret@host:port/db", "is no database address"),
        ("postgresql+psycopg://me:secret@host/db", "is not supported"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_configuration_error_without_its_password(url, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        normalise_url(url)
    assert "secret" not in str(caught.value)


def test_without_the_driver_the_command_that_installs_it_is_named():
    script = "import sys; sys.modules['asyncpg'] = None\nfrom judgeflow.store.engines import normalise_url\nnormalise_url('postgres://h/d')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "PostgreSQL needs asyncpg; install it with: pip install 'judgeflow[postgresql]'" in done.stderr


def test_the_settings_that_are_shown_hold_no_password(tmp_path):
    (tmp_path / "judgeflow.toml").write_text('[judge]\nmodel = "m"\n[store]\nurl = "postgresql://me:secret@host/db"\n')
    command = [sys.executable, "-m", "judgeflow", "config", "show", "--set", "routing.policy=always"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert 'url = "postgresql://me@host/db"' in shown
    assert "secret" not in shown


def test_the_settings_that_are_stored_with_a_run_hold_no_password():
    config = Config(judge={"model": "m"}, routing={"policy": "always"}, store={"url": "postgresql://me:sec/ret@host/db"})
    assert config.model_dump(mode="json")["store"]["url"] == "postgresql://me@host/db"
    assert config.store.url == "postgresql://me:sec/ret@host/db"
