"""What of a judge's own words may stand in an error: short, printable, and nothing of what was sent.

Servers like to quote the request they reject.  Errors go to the log, the terminal and the store, where prompts have no business.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_QUOTED = 300
_LONGEST_SEARCHED = 1000
_SHORTEST_TEXT = 8
_SHORTEST_RUN = 24
_GAP = "[...]"


def quotable(message: str, *, sent: Iterable[str], secret: str | None = None) -> str:
    """Return `message` as it may be shown.

    `secret`, every text in `sent` and every line of one from 8 characters on, and every stretch of 24 characters that one contains
    are replaced, whatever the white space; the rest is cut to about 300 characters.
    """
    if secret:
        message = message.replace(secret, "***")
    texts = sorted(sent, key=len, reverse=True)
    message = _without(_plain(message), map(_plain, texts))[:_LONGEST_SEARCHED]
    message = _without(message, (_plain(line) for text in texts for line in text.splitlines()))
    message = _without_runs(message, "\n".join(map(_plain, texts)))
    return message if len(message) <= LONGEST_QUOTED else f"{message[:LONGEST_QUOTED]}..."


def _plain(text: str) -> str:
    """One line of printable characters, single-spaced: no control sequence of a judge's reaches a terminal."""
    words = (word if word.isprintable() else _printable(word) for word in text.split())
    return " ".join(" ".join(words).split())


def _printable(word: str) -> str:
    return "".join(character if character.isprintable() else " " for character in word)


def _without(message: str, texts: Iterable[str]) -> str:
    for text in texts:
        if len(text) >= _SHORTEST_TEXT:
            message = message.replace(text, _GAP)
    return message


def _without_runs(message: str, sent: str) -> str:
    """Replace every stretch of the message that also stands in `sent`."""
    half = _SHORTEST_RUN // 2
    # Any shared stretch of that length holds a whole aligned window of half its length: where none is shared, nothing is searched.
    shared = [start for start in range(0, len(message), half) if message[start : start + half] in sent]
    starts = {start for window in shared for start in range(max(0, window - half), window + 1)}
    hits = sorted(start for start in starts if _is_shared(message[start : start + _SHORTEST_RUN], sent))
    kept, position = "", 0
    for start in hits:
        if start >= position:
            kept += message[position:start] + _GAP
        position = start + _SHORTEST_RUN
    return (kept + message[position:]).replace(_GAP + _GAP, _GAP)


def _is_shared(run: str, sent: str) -> bool:
    return len(run) == _SHORTEST_RUN and run in sent
