"""What observers tell of a really routed run: in the log exactly the documented fields, and nowhere a text or a key."""

import json
import re
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from aiohttp import web
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from judgeflow import Pair
from judgeflow.build import build_scheduler
from judgeflow.config import Config
from judgeflow.observe.log import console_log
from judgeflow.observe.metrics import MetricsObserver, exposition
from judgeflow.observe.tracing import TracingObserver
from judgeflow.testing import FakeJudge, JudgeLimits, arithmetic_pairs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")
TYPES = {"text": str, "integer": int, "number": float | int, "object": dict, "null": type(None)}
GONE = "http://127.0.0.1:1/v1"


def settings_of(directory, judge, **sections) -> Config:
    judge = {"model": "fake-judge", "timeout_s": 300.0, "retry_attempts": 3} | judge
    base = {"judge": judge, "routing": {"policy": "always"}, "run": {"directory": str(directory)}, "log": {"path": "run.log"}}
    return Config.model_validate(base | sections)


# The log


def documented() -> dict[str, dict[str, tuple[str, str]]]:
    """{event: {field: (type, when it is there)}} of the page; "" is what all events have, "judges" what several judges add."""
    head, *sections = re.split(r"^### `(\w+)`$", PAGE.partition("## Rotation")[0], flags=re.MULTILINE)
    found = {event: _rows(text.partition("\n## ")[0]) for event, text in zip(sections[::2], sections[1::2], strict=True)}
    return found | {"": _rows(head), "judges": _rows(PAGE.partition("## Notices")[2].partition("###")[0])}


def _rows(text):
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| .*? \| (.*?) \| .* \|$", text, re.MULTILINE)
    return {name: (kind, there) for name, kind, there in rows}


def events_of(directory) -> list[dict]:
    return [json.loads(line) for line in (directory / "run.log").read_text(encoding="utf-8").splitlines()]


async def a_run_with_faults(directory):
    """Replies of every kind, rate limits, a judge that is down, a budget that ends, and one process after another that died."""
    pairs = arithmetic_pairs(40)
    faults = ["429", "503", "no-tag", "length", "refusal", "400", "cut-off", "ok", "reasoning"]
    limits = JudgeLimits(requests_per_minute=500)
    async with FakeJudge.from_pairs(pairs, faults=faults, limits=limits) as server:
        first = settings_of(
            directory,
            {"base_url": server.base_url, "prompt_usd_per_mtok": 1.0},
            judges={"reserve": {"model": "other", "base_url": GONE, "retry_attempts": 1}},
            limits={"requests_per_minute": 6000, "tokens_per_minute": 10**9, "max_in_flight": 4},
            budget={"requests": 60, "usd": 9.0},
        )
        async with build_scheduler(first) as scheduler:
            await scheduler.route(pairs)
            await scheduler.route(pairs)
        alone = settings_of(directory, {"base_url": GONE, "id": "gone"})
        async with build_scheduler(alone) as scheduler:
            await scheduler.route(pairs[:2])


async def test_every_event_of_a_run_with_faults_has_exactly_the_documented_fields_and_types(tmp_path):
    await a_run_with_faults(tmp_path)
    pages, events = documented(), events_of(tmp_path)
    missing = defaultdict(Counter)
    for event in events:
        fields = pages[""] | pages[event["event"]]
        assert event["level"] == ("info" if event["event"] in {"call", "step"} else "warning")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["timestamp"])
        about_one_judge = event["event"] not in {"call", "step"} and "judge" in event
        fields |= pages["judges"] if about_one_judge else {}
        assert event.keys() <= fields.keys(), event
        for name, (kind, there) in fields.items():
            assert name in event or there != "always", (event, name)
            missing[event["event"]][name] += name not in event
            accepted = tuple(TYPES[each] for each in kind.split(" or ")) if name in event else (object,)
            assert isinstance(event.get(name), accepted), (event, name)
    seen = Counter(event["event"] for event in events)
    assert seen.keys() >= {
        "call",
        "step",
        "tokens_estimated",
        "limits_tightened",
        "in_flight_lowered",
        "budget_spent",
        "judge_opened",
        "judge_stopped",
    }
    assert 0 < missing["call"]["error"] < seen["call"]  # some attempts have one, and others not
    assert {event["seat"] for event in events if "seat" in event} >= {"judge"}
    assert {event["outcome"] for event in events if event["event"] == "call"} >= {"ok", "unparseable", "truncated", "refused", "rejected"}


# Secrets and texts

KEY = "sk-live-5ecre7-0123456789abcdef"
PROMPT, FIRST, SECOND = ("the-user-asks-about-project-bluebird", "answer-one-names-doctor-whitehall", "answer-two-names-account-44291")
REPLY, THOUGHT = "the-judge-explains-itself-at-length", "the-judge-thinks-aloud-of-something"
MARKS = (KEY, PROMPT, FIRST, SECOND, REPLY, THOUGHT)


@asynccontextmanager
async def hostile_judge():
    """A server that says back whatever it was sent, key included: in its errors, and in its replies.  Yields its base_url and bodies."""
    said = []

    async def answer(request):
        sent = (await request.read()).decode()
        echo = f"{request.headers['Authorization']} sent {sent} and {json.loads(sent)['messages'][-1]['content']}"
        kind = len(said) % 6
        body = {
            0: {"error": {"message": echo, "type": echo, "code": echo}},
            1: {"error": echo},
            2: {"detail": [{"msg": echo, "input": json.loads(sent)}]},
        }.get(kind, {"choices": [{"message": _message(kind, echo), "finish_reason": "stop"}], "usage": _USAGE})
        said.append(orjson.dumps(body).decode())
        return web.Response(status={0: 500, 1: 429, 2: 400}.get(kind, 200), text=said[-1], headers={"retry-after": "0"})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", said
    finally:
        await runner.cleanup()


_USAGE = {"prompt_tokens": 50, "completion_tokens": 10}


def _message(kind, echo):
    if kind == 3:
        return {"content": f"{REPLY} {echo} [[A]]", "reasoning_content": THOUGHT}
    return {"content": None, "refusal": f"{REPLY} {echo}"} if kind == 4 else {"content": f"{REPLY} about {PROMPT}, without a verdict"}


async def test_neither_log_nor_metrics_nor_spans_nor_scalars_hold_a_text_or_a_key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOSTILE_KEY", KEY)
    pairs = [Pair(prompt=f"{PROMPT} {n}", response_a=f"{FIRST} {n}\nline two", response_b=f"{SECOND} {n}") for n in range(8)]
    spans, provider, metrics = InMemorySpanExporter(), TracerProvider(), MetricsObserver()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    async with hostile_judge() as (base_url, said):
        settings = settings_of(
            tmp_path,
            {"base_url": base_url, "model": "hostile", "api_key_env": "HOSTILE_KEY"},
            log={"path": "run.log", "level": "debug", "tensorboard": "board"},
        )
        watching = [metrics, TracingObserver(provider), console_log(settings.log)]
        async with build_scheduler(settings, observers=watching) as scheduler:
            await scheduler.route(pairs)
    told = {
        "log": (tmp_path / "run.log").read_text(encoding="utf-8"),
        "terminal": capsys.readouterr().err,
        "metrics": exposition(metrics.registry)[0].decode(),
        "spans": "".join(span.to_json() for span in spans.get_finished_spans()),
        "scalars": b"".join(path.read_bytes() for path in (tmp_path / "board").iterdir()).decode("latin-1"),
    }
    everything = "".join(said)
    assert all(mark in everything for mark in MARKS)  # the judge did say them, in errors and in replies
    errors = [event["error"] for event in events_of(tmp_path) if "error" in event]
    assert len(errors) > 5
    assert any("[...]" in error for error in errors)  # and was quoted
    outcomes = {event["outcome"] for event in events_of(tmp_path) if event["event"] == "call"}
    assert outcomes >= {"overloaded", "rate_limited", "rejected", "ok", "refused", "unparseable"}
    for where, text in told.items():
        assert len(text) > 300, where
        assert "hostile" in text or where == "scalars"
        found = [mark for mark in (*MARKS, "line two") if mark in text]
        assert not found, (where, found)
