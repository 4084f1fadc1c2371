"""One file per case.  Each has `SIZE` (what --size means, and its default), `GOALS`, and `measure(size, seed) -> figures`."""
