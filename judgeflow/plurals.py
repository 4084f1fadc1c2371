"""Numbers with the nouns that they count."""

from __future__ import annotations


def plural(number: float, one: str, many: str | None = None) -> str:
    """`1 pair`, `2,000 pairs`; `many` where that is no `s` at the end, or where more words than the noun change."""
    return f"{number:,.0f} {one if number == 1 else many or one + 's'}"
