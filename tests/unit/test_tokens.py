import hashlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.tokens import ESTIMATE_BOUND, TokenCounter

unhurried = settings(deadline=None)
O200K = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"


@pytest.fixture
def no_vocabulary(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def estimate(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path_factory.mktemp("empty")))
        return TokenCounter("gpt-4o")


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-2", "o1-mini-2024-09-12", "a-model-nobody-knows"])
def test_without_a_vocabulary_on_disk_every_model_is_estimated(no_vocabulary, model):
    counter = TokenCounter(model)
    assert counter.exact is False
    assert counter.count("Twelve chars") == 3


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("日本語", 3), ("🖐", 1), ("<|endoftext|>", 4)])
def test_the_estimate_is_a_quarter_of_the_bytes_rounded_up(estimate, text, tokens):
    assert estimate.count(text) == tokens


def test_text_that_is_not_valid_unicode_is_still_counted(estimate):
    assert estimate.count("\ud800") == 1


@unhurried
@given(st.text(), st.text())
def test_the_bound_is_above_the_estimate_with_room_and_grows_with_the_text(estimate, text, more):
    assert estimate.bound(text) >= math.ceil(estimate.count(text) * ESTIMATE_BOUND)
    assert estimate.bound(text) > estimate.count(text)
    assert estimate.bound(text + more) >= estimate.bound(text)


def test_a_disabled_vocabulary_cache_means_an_estimate(monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert TokenCounter("gpt-4o").exact is False


def test_a_damaged_vocabulary_means_an_estimate(no_vocabulary, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # a port that answers nobody: what tiktoken tries next fails at once
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    (no_vocabulary / hashlib.sha1(O200K.encode()).hexdigest()).write_bytes(b"damaged")
    counter = TokenCounter("gpt-4o")
    assert counter.exact is False
    assert counter.count("Twelve chars") == 3
