"""Many rows at a time, through the driver itself.

SQLAlchemy writes each statement once; the rows then go to the driver as they are, which is several times as fast as passing every value
through its types.  So these are for tables whose values the driver takes as they come: no JSON.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Insert,
    Row,
    Select,
    Table,
    Text,
    Update,
    any_,
    bindparam,
    column,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from judgeflow.store.texts import for_driver


class Lines(NamedTuple):
    """Rows as a driver takes them: the names of the columns once, and each row's values in their order."""

    columns: tuple[str, ...]
    values: Sequence[tuple[Any, ...]]

    @classmethod
    def of(cls, table: Table, values: Sequence[tuple[Any, ...]]) -> Lines:
        """Rows with a value for every column of the table, in its order."""
        return cls(tuple(table.c.keys()), values)


Rows = Sequence[Mapping[str, Any]] | Lines


def insert(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows, all with the same keys.  A row that is there already is an error of the driver's."""
    _run(connection, _inserting, table, rows)


def insert_new(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert those rows that are not there yet."""
    _run(connection, _inserting_new, table, rows)


def insert_or_update(connection: Connection, table: Table, rows: Rows, changed: tuple[str, ...], filled: tuple[str, ...] = ()) -> None:
    """Insert rows; of those that are there already, only the columns `changed` are written, and those `filled` where they are empty."""
    _run(connection, _inserting_or_updating, table, rows, changed, filled)


def update(connection: Connection, table: Table, rows: Rows, keys: tuple[str, ...], expected: tuple[tuple[str, str], ...]) -> int:
    """Write rows over those with the same `keys`, where these still hold the `expected` values; return how many were found."""
    if connection.dialect.name != "postgresql":
        return _run(connection, _updating, table, rows, keys, expected)
    # asyncpg does not count what many rows of parameters have changed, so they go there as one array for each column.
    columns, values = _lines(rows)
    statement = _updating_from_arrays(table, columns, keys, expected)
    arrays = zip(columns, zip(*values, strict=True), strict=True)
    return connection.execute(statement, {_BOUND + name: list(array) for name, array in arrays}).rowcount


def among(dialect: Dialect, key: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that `key` is one of a few hundred `values`: for PostgreSQL one array, which is read faster than a list."""
    if dialect.name == "postgresql":
        return key == any_(literal(list(values), ARRAY(key.type)))
    return key.in_(values)


def rows_among(connection: Connection, key: Column[Any], values: Sequence[Any]) -> Sequence[Row[Any]]:
    """Return the rows, with all columns, of the table of `key` where it is one of a few hundred `values`.

    SQLite's are as the driver gives them: there true is 1, and false 0.
    """
    return chosen_among(connection, _whole, key, values)


def _whole(_dialect: Dialect, key: Column[Any], found: ColumnElement[bool]) -> Select[Any]:
    return select(key.table).where(found)


Make = Callable[..., Select[Any]]
"""Makes a statement of a dialect, a key's column, the condition that it is one of some values, and other parameters by name."""


def chosen_among(connection: Connection, /, make: Make, key: Column[Any], values: Sequence[Any], **given: Any) -> Sequence[Any]:
    """Return what `make` selects where `key` is one of a few hundred `values`, as `rows_among`.

    `make` is a function of some module: its statement is kept, on SQLite with a parameter for each of `given`.
    """
    dialect = connection.dialect
    if dialect.name == "postgresql":
        return connection.execute(make(dialect, key, among(dialect, key, values), **given)).all()
    # A statement is written once for each number of values, so some values are asked for twice to make it a power of two.
    number = 1 << (len(values) - 1).bit_length()
    sql, before, behind, fixed = _selecting(dialect, make, key, number, tuple(given))
    others = {**fixed, **given}
    asked = (*map(others.get, before), *values, *values[: number - len(values)], *map(others.get, behind))
    with connection.exec_driver_sql(sql, asked) as result:
        return list(result.cursor.fetchall())


@functools.lru_cache(maxsize=64)
def _selecting(
    dialect: Dialect, make: Make, key: Column[Any], number: int, given: tuple[str, ...]
) -> tuple[str, tuple[str, ...], tuple[str, ...], Mapping[str, Any]]:
    """The statement in the driver's words, the names of the parameters before and behind the values, and what some of them always are."""
    marks = [bindparam(f"{_BOUND}{index}", type_=key.type) for index in range(number)]
    compiled = make(dialect, key, key.in_(marks), **{name: bindparam(name, type_=Text()) for name in given}).compile(dialect=dialect)
    names = tuple(compiled.positiontup or ())
    first = names.index(f"{_BOUND}0")
    before, behind = names[:first], names[first + number :]
    return str(compiled), before, behind, {name: compiled.params[name] for name in (*before, *behind)}


def new_rows(dialect: Dialect, table: Table) -> Insert:
    """Return an insert that keeps a row which is there already."""
    return _of(dialect, table).on_conflict_do_nothing()


def _run(connection: Connection, make: Callable[..., Insert | Update], table: Table, rows: Rows, *details: Any) -> int:
    columns, values = for_driver(connection.dialect, table, *_lines(rows))
    if not values:
        return 0
    sql, arranged = _prepared(connection.dialect, make, table, columns, *details)
    return connection.exec_driver_sql(sql, values if arranged is None else list(map(arranged, values))).rowcount


def _lines(rows: Rows) -> Lines:
    if isinstance(rows, Lines) or not rows:
        return rows if isinstance(rows, Lines) else Lines((), ())
    columns = tuple(rows[0])
    return Lines(columns, list(map(itemgetter(*columns), rows)))


@functools.lru_cache(maxsize=64)
def _prepared(
    dialect: Dialect, make: Callable[..., Insert | Update], table: Table, columns: tuple[str, ...], *details: Any
) -> tuple[str, Callable[[tuple[Any, ...]], tuple[Any, ...]] | None]:
    """The statement in the driver's words, and what brings a row into the order of its parameters where it is another."""
    statement = make(dialect, table, columns, *details)
    compiled = statement.compile(dialect=dialect)
    names = tuple(name.removeprefix(_BOUND) for name in compiled.positiontup or ())
    return str(compiled), None if names == columns else itemgetter(*map(columns.index, names))


_BOUND = "to_"
"""SQLAlchemy keeps the columns' own names for itself."""


def _inserting(_dialect: Dialect, table: Table, columns: tuple[str, ...]) -> Insert:
    return table.insert().values(_bound(table, columns))


def _inserting_new(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> Insert:
    return new_rows(dialect, table).values(_bound(table, columns))


def _inserting_or_updating(
    dialect: Dialect, table: Table, columns: tuple[str, ...], changed: tuple[str, ...], filled: tuple[str, ...]
) -> Insert:
    statement = _of(dialect, table).values(_bound(table, columns))
    renewed = {name: statement.excluded[name] for name in changed}
    completed = {name: func.coalesce(table.c[name], statement.excluded[name]) for name in filled}
    return statement.on_conflict_do_update(index_elements=[column.name for column in table.primary_key], set_=renewed | completed)


def _updating(
    _dialect: Dialect, table: Table, columns: tuple[str, ...], keys: tuple[str, ...], expected: tuple[tuple[str, str], ...]
) -> Update:
    bound = _bound(table, columns)
    found = [table.c[name] == bound.pop(name) for name in keys]
    unchanged = [table.c[name] == literal_column(f"'{value}'") for name, value in expected]
    return table.update().where(*found, *unchanged).values(bound)


@functools.lru_cache(maxsize=8)
def _updating_from_arrays(table: Table, columns: tuple[str, ...], keys: tuple[str, ...], expected: tuple[tuple[str, str], ...]) -> Update:
    arrays = [bindparam(_BOUND + name, type_=ARRAY(table.c[name].type)) for name in columns]
    typed = [column(name, table.c[name].type) for name in columns]
    rows = func.unnest(*arrays).table_valued(*typed, name="rows").render_derived()
    found = [table.c[name] == rows.c[name] for name in keys]
    unchanged = [table.c[name] == literal_column(f"'{value}'") for name, value in expected]
    changed = {name: rows.c[name] for name in columns if name not in keys}
    return table.update().where(*found, *unchanged).values(changed)


def _bound(table: Table, columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: bindparam(f"{_BOUND}{name}", type_=table.c[name].type) for name in columns}


def _of(dialect: Dialect, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)
