"""Very many rows as columns, straight from the driver.

SQLAlchemy writes the statement; its rows would take as long again as reading them.  So this is for columns whose values come from the
driver as they are wanted: numbers, keys, plain words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.keys import KEY_BYTES

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]
Keys = NDArray[np.uint64]

Table = TypeVar("Table")


async def columns(connection: AsyncConnection, statement: Select[Any]) -> list[Sequence[Any]]:
    """Return what a statement selects, column by column.  Raises what the driver raises: see `store_errors`."""
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    values = compiled.construct_params()
    parameters = [values[name] for name in compiled.positiontup or ()]
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if connection.dialect.name == "sqlite":
        rows = await driver.execute_fetchall(str(compiled), parameters)
    else:
        rows = await driver.fetch(str(compiled), *parameters)
    return [list(map(itemgetter(place), rows)) for place in range(len(statement.selected_columns))]


def joined(kind: type[Table], parts: Sequence[Table]) -> Table:
    """Return the rows of all parts, one part after the other; `kind` is a dataclass of columns."""
    return kind(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(kind)))  # type: ignore[arg-type]


def floats(column: Sequence[float | None]) -> Floats:
    """Return numbers, NaN where there is none."""
    return np.array(column, dtype=np.float64)


def flags(column: Sequence[bool | int | None]) -> Flags:
    """Return truths; null is false."""
    return np.array(column, dtype=np.bool_)


def numbers(column: Sequence[int | None]) -> Numbers:
    """Return whole numbers, 0 where there is none."""
    return np.array([each or 0 for each in column], dtype=np.int64)


def cut(keys: Sequence[bytes | None]) -> Keys:
    """Return the first eight bytes of each key as a whole number, which sorts as the key does; 0 where there is none."""
    whole = np.frombuffer(b"".join([key or _NOBODY for key in keys]), dtype=">u8").reshape(len(keys), KEY_BYTES // 8)
    return whole[:, 0].astype(np.uint64)


_NOBODY = bytes(KEY_BYTES)
