import base64
import hashlib
import json
import math
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.tokens import ESTIMATE_BOUND, TokenCounter, _encoding_name

unhurried = settings(deadline=None)
PROSE = "The response shown first serves the prompt better, since it answers what was asked and says no more than that. " * 10
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


MEASURED = {
    "base64": (base64.b64encode(bytes(range(256)) * 4).decode(), 991),
    "hashes": (" ".join(f"{i * 2654435761 % 2**32:08x}" for i in range(200)), 1111),
    "numbers": (" ".join(str(i * 7919 % 10**6) for i in range(300)), 898),
    "Ethiopic": ("".join(chr(0x1200 + i * 37 % 0x150) for i in range(300)), 896),
    "Armenian": ("Մենք համեմատում ենք երկու պատասխան և որոշում, թե որն է ավելի լավ. " * 10, 1180),
    "Greek": ("Συγκρίνουμε δύο απαντήσεις και αποφασίζουμε ποια εξυπηρετεί καλύτερα την ερώτηση του χρήστη. " * 10, 841),
    "emoji": ("".join(chr(0x1F300 + i * 37 % 0x300) for i in range(200)), 579),
    "JSON": (json.dumps({f"k{i}": [i, i * 37 % 101 / 8] for i in range(100)}), 1297),
    "symbols": ("".join(string.punctuation[i * 7 % 32] for i in range(600)), 487),
    "a table": ("| 1 | 2.5 | x |\n" * 100, 1101),
    "LaTeX": (r"\frac{a_{i}^{2}}{\sqrt{b_{j}+1}} \leq \sum_{k=0}^{n} \binom{n}{k} x^{k} " * 10, 441),
    "prose": (PROSE, 221),
}
"""Texts, and the most tokens that cl100k, o200k and an older SentencePiece vocabulary with byte fallback make of them."""


@pytest.mark.parametrize(("text", "tokens"), MEASURED.values(), ids=MEASURED)
def test_no_measured_text_passes_its_bound(estimate, text, tokens):
    assert tokens <= estimate.bound(text) <= len(text.encode()) + 1


def test_plain_prose_is_bounded_well_below_a_token_a_byte(estimate):
    assert estimate.bound(PROSE) < 0.5 * len(PROSE)


@unhurried
@given(st.text(st.characters(min_codepoint=0x80, exclude_categories=["Cs"])) | st.from_regex(r"\A[A-Z0-9=+/]{25,99}\Z"))
def test_what_is_no_plain_word_is_bounded_for_certain_by_a_token_a_byte(estimate, text):
    assert estimate.bound(text) >= len(text.encode())


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-99", "o200k_base"),
        ("o9-mini", "o200k_base"),
        ("llama-3.3-70b", None),
        ("deepseek-chat", None),
        ("our-judge", None),
    ],
)
def test_a_vocabulary_is_used_for_the_models_it_belongs_to_and_no_others(model, name):
    assert _encoding_name(model) == name


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
