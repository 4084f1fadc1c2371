"""From a configuration to the objects that do the work."""

import pytest

from judgeflow.build import api_key, build_scheduler, run_name, store_url
from judgeflow.config import Config
from judgeflow.errors import ConfigurationError


def config(**sections) -> Config:
    judge = {"model": "m"} | sections.pop("judge", {})
    return Config.model_validate({"judge": judge, "routing": {"policy": "always"}} | sections)


class Notices:
    def __init__(self):
        self.events = []

    def notice(self, event, **fields):
        self.events.append((event, fields))


def test_a_run_without_a_name_is_named_by_its_input_and_what_it_asks():
    base = run_name(config(), b"input")
    assert base == run_name(config(), b"input")
    assert run_name(config(), b"other input") != base
    for changed in ({"budget": {"requests": 5}}, {"judge": {"temperature": 0.5}}, {"routing": {"policy": "never"}}):
        assert run_name(config(**changed), b"input") != base
    for same in (
        {"limits": {"requests_per_minute": 5}},
        {"log": {"level": "debug"}},
        {"judge": {"timeout_s": 3.0}},
        {"store": {"url": "x.db"}},
    ):
        assert run_name(config(**same), b"input") == base
    assert run_name(config(run={"name": "mine"}), b"input") == "mine"


def test_relative_databases_lie_in_the_runs_directory(tmp_path):
    assert store_url(config(run={"directory": str(tmp_path)})) == f"sqlite+aiosqlite:///{tmp_path}/judgeflow.db"
    assert store_url(config(run={"directory": "x"}, store={"url": "sqlite+aiosqlite:////abs/v.db"})).endswith(":////abs/v.db")


def test_the_api_key_comes_from_the_variable_that_is_named(monkeypatch):
    monkeypatch.setenv("SOME_KEY", " sk-1 ")
    assert api_key(config(judge={"api_key_env": "SOME_KEY"})) == "sk-1"
    assert api_key(config()) is None
    monkeypatch.setenv("SOME_KEY", "")
    with pytest.raises(ConfigurationError, match="SOME_KEY is not set"):
        api_key(config(judge={"api_key_env": "SOME_KEY"}))


def test_estimated_tokens_are_announced_where_tokens_are_limited_and_only_there(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for sections, expected in (
        ({"limits": {"tokens_per_minute": 10_000}}, ["tokens_estimated"]),
        ({"budget": {"usd": 1.0}, "judge": {"prompt_usd_per_mtok": 2.0}}, ["tokens_estimated"]),
        ({"budget": {"requests": 1}}, []),
    ):
        seen = Notices()
        build_scheduler(config(**sections), observers=[seen])
        assert [event for event, _ in seen.events] == expected
