"""The chain of migrations makes the tables that the code expects, from every earlier revision, without losing a row."""

import re
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import judgeflow
from judgeflow.errors import StoreUnavailable
from judgeflow.store import SqlStore, migrate, schema
from judgeflow.store.check import check


@pytest.fixture
def path(tmp_path):
    return tmp_path / "verdicts.db"


def chain():
    config = Config()
    config.set_main_option("script_location", str(migrate.migrations_folder()))
    return list(ScriptDirectory.from_config(config).walk_revisions())[::-1]


def differences(path):
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True})
            return compare_metadata(context, schema.metadata)
    finally:
        engine.dispose()


def execute(path, *statements):
    connection = sqlite3.connect(path)
    rows = [connection.execute(statement).fetchall() for statement in statements]
    connection.commit()
    connection.close()
    return rows


def test_the_known_revisions_are_one_chain_in_order():
    revisions = chain()
    assert tuple(script.revision for script in revisions) == schema.REVISIONS
    assert [script.down_revision for script in revisions] == [None, *schema.REVISIONS[:-1]]


def test_every_revision_has_a_line_in_the_notes_and_every_line_a_revision():
    notes = (migrate.migrations_folder() / "NOTES.md").read_text()
    assert tuple(re.findall(r"^- (\w+): \S", notes, re.MULTILINE)) == schema.REVISIONS


def test_the_migrations_of_a_checkout_are_found_beside_the_package():
    assert migrate.migrations_folder() == Path(judgeflow.__file__).parents[1] / "migrations"


async def test_the_migrated_schema_is_the_schema_of_the_code(path):
    await migrate.upgrade(str(path))
    assert differences(path) == []


async def test_a_schema_that_differs_would_be_noticed(path):
    await migrate.upgrade(str(path))
    execute(path, "ALTER TABLE call ADD COLUMN surplus TEXT")
    assert len(differences(path)) == 1


@pytest.mark.parametrize("revision", schema.REVISIONS)
async def test_every_revision_can_be_upgraded_to_the_newest_and_keeps_its_rows(path, revision):
    await migrate.upgrade(str(path), revision)
    execute(path, "INSERT INTO judge VALUES (x'00', 'id', 'model', '{}', 1.5)")
    before = await migrate.upgrade(str(path))
    assert before.revision == revision
    assert before.kind == ("current" if revision == schema.REVISIONS[-1] else "older")
    assert execute(path, "SELECT id, model, created_at FROM judge") == [[("id", "model", 1.5)]]
    assert differences(path) == []
    assert all(finding.ok for finding in await check(str(path)))
    await (await SqlStore.open(str(path))).aclose()


async def test_a_migration_that_fails_half_way_changes_nothing(path):
    await migrate.upgrade(str(path), "0001")
    execute(path, "CREATE TABLE reservation (obstacle INTEGER)")
    with pytest.raises(StoreUnavailable, match="table reservation already exists"):
        await migrate.upgrade(str(path))
    assert (await migrate.inspect(str(path))).revision == "0001"
    execute(path, "DROP TABLE reservation")
    await migrate.upgrade(str(path))
    assert differences(path) == []


async def test_upgrading_twice_changes_nothing_the_second_time(path):
    assert (await migrate.upgrade(str(path))).kind == "missing"
    before = execute(path, "SELECT sql FROM sqlite_master")
    assert (await migrate.upgrade(str(path))).kind == "current"
    assert execute(path, "SELECT sql FROM sqlite_master") == before


async def test_looking_at_a_missing_database_does_not_create_it(path):
    assert (await migrate.inspect(str(path))).kind == "missing"
    assert list(path.parent.iterdir()) == []
