"""Whether a judge can be reached, without paying for a question: the list of models that OpenAI-compatible servers give for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from judgeflow.config import JudgeConnection
from judgeflow.judges.completion import parse_json

_KEY_REFUSED = frozenset({401, 403})
_LARGEST_LIST = 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What came of knocking at a judge's door: whether it can be used as configured as far as this tells, and in words."""

    ok: bool
    detail: str


async def reach(settings: JudgeConnection, api_key: str | None) -> Reach:
    """Ask a judge for its models, which costs nothing.  Never raises for what the judge does."""
    address = f"{settings.base_url.rstrip('/')}/models"
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    timeout = aiohttp.ClientTimeout(total=settings.timeout_s, sock_connect=settings.connect_timeout_s)
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session, session.get(address) as response:
            return _judged(settings, response.status, await response.content.read(_LARGEST_LIST))
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        return Reach(ok=False, detail=f"{settings.base_url} cannot be reached: {str(error) or type(error).__name__}; check base_url")


def _judged(settings: JudgeConnection, status: int, body: bytes) -> Reach:
    if status in _KEY_REFUSED:
        remedy = f"check the key in {settings.api_key_env}" if settings.api_key_env else "name its variable as api_key_env"
        return Reach(ok=False, detail=f"{settings.base_url} is there, and refuses the API key ({status}); {remedy}")
    if status >= 500:
        return Reach(ok=False, detail=f"{settings.base_url} answers {status}: it is there, and does not work")
    models = _models(body) if status == 200 else []
    if models and settings.model not in models:
        named = ", ".join(sorted(models)[:5]) + (f" and {len(models) - 5} more" if len(models) > 5 else "")
        return Reach(ok=False, detail=f"{settings.base_url} is there, but has no model {settings.model!r}; it has {named}")
    known = f"and knows {settings.model}" if models else "and does not tell its models"
    return Reach(ok=True, detail=f"{settings.base_url} is there {known}")


def _models(body: bytes) -> list[str]:
    """The names of the models in a list as OpenAI gives it; none of anything else."""
    try:
        data = parse_json(body)
    except ValueError:
        return []
    entries = data.get("data") if isinstance(data, dict) else None
    return [entry["id"] for entry in entries or [] if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
