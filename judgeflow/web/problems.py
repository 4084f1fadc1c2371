"""What went wrong, as an answer: a status, a title, and a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from judgeflow.errors import ReadTooLong, StoreError
from judgeflow.web.desk import Unknown
from judgeflow.web.views import BadAddress

RETRY = {"Retry-After": "5"}

MISTAKE = "This is a mistake in judgeflow; what it was stands where `judgeflow serve` runs, or in the service.log of an elected service."

TITLES = {
    400: "This address cannot be read",
    401: "Who are you?",
    404: "There is nothing here",
    405: "This page can only be read",
    421: "This is not the name of this page",
    500: "Something went wrong",
    503: "This cannot be shown now",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An answer about what went wrong."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """A few words about it."""
        return TITLES.get(self.status, "This is not possible")


def problem_of(error: Exception) -> Problem:
    """Return the answer to an error."""
    match error:
        case BadAddress():
            return Problem(status=400, text=str(error))
        case Unknown():
            return Problem(status=404, text=str(error))
        case ReadTooLong():
            return Problem(status=503, text=f"{error}. Reads are kept short here, so that no run is held up.", headers=RETRY)
        case StoreError():
            return Problem(status=503, text=str(error), headers=RETRY)
        case web.HTTPException():
            return _of_http(error)
        case _:
            return Problem(status=500, text=MISTAKE)


def _of_http(error: web.HTTPException) -> Problem:
    plain = error.text is None or error.text.startswith(f"{error.status}:")
    text = "No page has this address." if error.status == 404 and plain else error.text or error.reason
    return Problem(status=error.status, text=text, headers={name: error.headers[name] for name in ("Allow",) if name in error.headers})
