"""Whether a judge can be reached, without paying for a question: the list of models that OpenAI-compatible servers give for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from judgeflow.config import JudgeConnection
from judgeflow.judges.completion import error_of, parse_json
from judgeflow.judges.failures import refused_because
from judgeflow.judges.quoting import quotable

_NO_LIST = frozenset({404, 405, 501})
"""What servers answer that do not tell their models."""

_LLAMA_CPP = "llamacpp"
_LARGEST_LIST = 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What came of knocking at a judge's door: whether it can be used as configured as far as this tells, and in words."""

    ok: bool
    detail: str


async def reach(settings: JudgeConnection, api_key: str | None) -> Reach:
    """Ask a judge for its models, which costs nothing.  Never raises for what the judge does."""
    base_url = settings.base_url.rstrip("/")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    timeout = aiohttp.ClientTimeout(total=settings.timeout_s, sock_connect=settings.connect_timeout_s)
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            status, body = await _get(session, f"{base_url}/models")
            if status == 404 and (await _get(session, f"{base_url}/v1/models"))[0] == 200:
                return Reach(ok=False, detail=f"{settings.base_url} is there, but answers below /v1 only; set base_url to {base_url}/v1")
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        return Reach(ok=False, detail=f"{settings.base_url} cannot be reached: {str(error) or type(error).__name__}; check base_url")
    said = quotable(error_of(body).message, sent=(), secret=api_key)
    return _judged(settings, status, body, said)


async def _get(session: aiohttp.ClientSession, address: str) -> tuple[int, bytes]:
    """The status and the body of an answer, of which no more is read than a list may be long."""
    async with session.get(address) as response:
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > _LARGEST_LIST:
                break
        return response.status, bytes(body)


def _judged(settings: JudgeConnection, status: int, body: bytes, said: str) -> Reach:
    """What an answer tells; `said` are its words, as they may be shown, if it is an error."""
    where = f"{settings.base_url} is there"
    if status < 300:
        return _listed(settings, where, _models(body))
    if status in _NO_LIST:
        return Reach(ok=True, detail=f"{where} and does not tell its models")
    if status == 429:
        return Reach(ok=True, detail=f"{where} and asks to be asked later ({status}: {said})")
    keyless = "if it wants an API key, name its variable as api_key_env"
    if refused_because(error_of(body), status, {}, quoted=said, model=settings.model) == "key":
        remedy = f"check the key in {settings.api_key_env}" if settings.api_key_env else keyless
        return Reach(ok=False, detail=f"{where}, and refuses the API key ({status}: {said}); {remedy}")
    hint = "" if settings.api_key_env else f"; {keyless}"
    return Reach(ok=False, detail=f"{where}, and does not work: it answers {status}: {said}{hint}")


def _listed(settings: JudgeConnection, where: str, models: dict[str, str]) -> Reach:
    if not models:
        return Reach(ok=True, detail=f"{where} and does not tell its models")
    if settings.model in models:
        return Reach(ok=True, detail=f"{where} and knows {settings.model}")
    if set(models.values()) == {_LLAMA_CPP} and len(models) == 1:
        return Reach(ok=True, detail=f"{where}: llama.cpp, which answers as its one model {next(iter(models))!r} whatever it is asked for")
    named = ", ".join(sorted(models)[:5]) + (f" and {len(models) - 5} more" if len(models) > 5 else "")
    return Reach(ok=False, detail=f"{where}, but has no model {settings.model!r}; it has {named}")


def _models(body: bytes) -> dict[str, str]:
    """The names of the models in a list as OpenAI gives it, and who owns each; none of anything else."""
    try:
        data = parse_json(body)
    except ValueError:
        return {}
    entries = data.get("data") if isinstance(data, dict) else None
    sound = [entry for entry in entries or [] if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    return {entry["id"]: str(entry.get("owned_by")) for entry in sound}
