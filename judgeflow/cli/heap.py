"""The garbage collector in a process that holds torch."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_out_of_collections() -> Iterator[None]:
    """Leave what exists now out of garbage collections while the block lasts.

    torch and transformers are some 350,000 objects.  A full collection walks through them all, on whatever thread it
    falls, and holds the event loop for a tenth of a second and more.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
