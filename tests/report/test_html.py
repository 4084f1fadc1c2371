"""The HTML file as text: what is in it, what cannot get out of its place, how large it is."""

import gzip
import json
import re
from base64 import b64decode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from made_figures import HOSTILE, a_hostile_run, a_pair, a_run

from judgeflow.errors import UsageError
from judgeflow.report.html import report_page, write_report
from judgeflow.report.pages import library
from judgeflow.report.safe import excerpt, json_for_script, plain_config, shortened, visible
from judgeflow.types import Pressure


class Elements(HTMLParser):
    """Counts elements, and keeps the text of scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self.policy = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if dict(attributes).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attributes)["content"]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags[-1:] == ["script"] and self.scripts and not self.scripts[-1]:
            self.scripts[-1] = data


def parsed(page):
    found = Elements()
    found.feed(page)
    return found


@pytest.fixture(scope="module")
def usual():
    return report_page(a_run())


@pytest.fixture(scope="module")
def hostile():
    return report_page(a_hostile_run())


def test_the_policy_names_the_hash_of_every_script_and_the_library_comes_out_of_its_package(usual):
    found = parsed(usual)
    figures, drawing, packed, starting = found.scripts

    assert gzip.decompress(b64decode(packed)) == library()
    for script in (drawing.encode(), starting.encode(), library()):
        assert f"'sha256-{_base64(sha256(script).digest())}'" in found.policy
    assert found.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert set(json.loads(figures)) == {"budget", "sources", "share", "uncertainty", "load", "waiting", "consistency", "lift"}


def _base64(raw):
    from base64 import b64encode

    return b64encode(raw).decode()


def test_nothing_in_a_page_names_another_place_than_itself(usual):
    without_library = re.sub(r'id="chart-library">[^<]*', "", usual)
    assert re.findall(r'(?:src|href|action)="(?!#|data:,)[^"]*"', without_library) == []
    assert "url(" not in without_library


def test_texts_of_others_never_become_elements(usual, hostile):
    assert parsed(hostile).tags.count("script") == parsed(usual).tags.count("script") == 4
    assert {"img", "iframe", "object"} & set(parsed(hostile).tags) == set()
    assert parsed(hostile).tags.count("style") == 1
    assert "49" not in re.findall(r"&lt;style&gt;body\{display:none\}&lt;/style&gt;(.{0,12})", hostile)[0]


def test_characters_that_act_are_spelled_out(hostile):
    assert not set(hostile) & set("\x00\x1b\u202e")
    assert "⟨U+202E⟩txt.exe" in hostile
    assert "⟨ESC[31m⟩red⟨ESC[0m⟩ nul:⟨U+0000⟩" in hostile
    assert "⟨U+D800⟩" in hostile


def test_long_texts_are_cut_and_say_how_long_they_were(hostile):
    assert "… and 1,980,000 more characters: 20,000 of 2,000,000 are shown." in hostile
    assert len(hostile) < 3_000_000


def test_a_report_of_many_steps_stays_small_beside_the_library(usual):
    packed = len(re.search(r'id="chart-library">([^<]*)', usual)[1])
    assert packed < 0.45 * len(library())
    assert len(report_page(a_run(3000))) - packed < 400_000


def test_a_page_reads_in_order_answers_numbers_charts_judges_pairs_settings_notes(usual):
    order = [
        "Is judging healthy?",
        "Decisions changed",
        "Budget left",
        "Judges and decisions",
        "Most inconsistent",
        "routing.policy",
        "The decisions of 10 of 50",
    ]
    places = [usual.index(text) for text in order]
    assert places == sorted(places)


def test_messages_of_a_conversation_are_told_apart(usual):
    assert re.search(r'<li class="system"><h4 class="small">system</h4>\s*<div class="text" dir="auto">You are a patient teacher\.', usual)
    assert re.search(r'<li class="user"><h4 class="small">user</h4>\s*<div class="text" dir="auto">So is 1 prime\?', usual)


def test_of_a_long_conversation_the_end_is_shown():
    prompt = tuple({"role": "user", "content": f"message number {number}."} for number in range(50))
    page = report_page(a_run(2, slowest=(a_pair(prompt=prompt),)))

    assert "30 earlier messages left out." in page
    assert ("message number 29." in page, "message number 30." in page) == (False, True)


def test_a_run_without_judges_pairs_and_notes_is_a_page_too():
    page = report_page(a_run(0, judges=(), slowest=(), inconsistent=(), notes=(), pairs=0, config={}, answers=(), sources={}, statuses={}))

    assert "No judge has answered." in page
    assert "Pairs to read" not in page


def test_a_pair_without_replies_says_so():
    assert "No reply is stored." in report_page(a_run(2, slowest=(a_pair(replies=()),)))


def test_a_report_is_whole_or_not_there(tmp_path):
    path = tmp_path / "report.html"
    write_report(a_run(2), path)
    assert path.read_text(encoding="utf-8").endswith("</html>")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]

    with pytest.raises(UsageError, match=r"nowhere/report\.html: cannot be written: No such file or directory"):
        write_report(a_run(2), tmp_path / "nowhere" / "report.html")


def test_the_same_figures_give_the_same_bytes(usual):
    assert report_page(a_run()) == usual


def test_json_in_a_script_cannot_end_it():
    text = json_for_script({"name": "</script><!--\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"name": "</script><!--\u2028"}


def test_long_names_lose_their_middle_and_stay_on_one_line():
    assert shortened("short\nname") == "short name"
    assert shortened("a" * 50 + "-2026-05", 20) == "a" * 13 + "…026-05"


def test_an_excerpt_counts_what_it_leaves_out():
    assert (excerpt("abcdef", 4).text, excerpt("abcdef", 4).cut) == ("abcd", 2)
    assert visible("a\tb\r\nc\rd") == "a\tb\nc⟨U+000D⟩d"


def test_settings_are_lines_in_their_own_order():
    config = {"run": {"name": "x", "steps": None}, "judges": [{"id": "ü"}], "empty": {}}
    assert plain_config(config) == [("run.name", '"x"'), ("run.steps", "null"), ("judges", '[{"id": "ü"}]'), ("empty", "{}")]
    assert HOSTILE  # the surrogate in it can be shown, see above


def test_what_a_judge_turned_away_stands_beside_what_it_answered():
    felt = Pressure(max_in_flight=64, in_flight=8, rate_limited=1200, lowered_s=60.0)
    judge = replace(a_run().judges[0], pressure=felt, strain="turned away 1,200 requests with 429 <b>")
    page = report_page(replace(a_run(), judges=(judge, *a_run().judges[1:])))
    assert "1,200 turned away</td>" in page
    assert f'<p class="strain"><bdi>{judge.id}</bdi>: turned away 1,200 requests with 429 &lt;b&gt;.</p>' in page


def test_replies_of_judges_that_the_run_did_not_ask_are_counted():
    page = report_page(replace(a_run(), slowest=(a_pair(others=1),)))
    assert "Not shown: 1 reply of judges that this run did not ask." in page
    assert "Not shown" not in report_page(a_run())
