import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.types import Reading, ReadingStatus, Reply
from judgeflow.verdicts.parse import PARSER_VERSION, read_reply, visible_text
from judgeflow.verdicts.prompt import Grade, load_template

unhurried = settings(deadline=None)
TAGS = {name: load_template(name).verdicts for name in ("default", "verdict-abc", "verdict-scale")}
A, B, TIE = (1, True), (-1, True), (0, True)
NOTHING = (None, False)


def read(text, template="verdict-abc", **reply):
    reading = read_reply(Reply(text=text, **reply), TAGS[template])
    assert reading.parser_version == PARSER_VERSION
    return reading


def meaning(text, template="verdict-abc", **reply):
    reading = read(text, template, **reply)
    return reading.preferred, reading.strong


# The final tag


@pytest.mark.parametrize("template", sorted(TAGS))
def test_every_tag_of_a_template_is_read_as_what_it_means(template):
    for tag, grade in TAGS[template].items():
        assert meaning(f"They differ.\n\nFinal verdict: {tag}", template) == (grade.preferred, grade.strong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[A]]", A),
        ("Final verdict: **[[B]]**", B),
        ("At first [[A]] seemed better, but no: [[B]]", B),
        ("[[B]], or rather [[C]] for a tie.", TIE),
        ("[[A]] if assistant A is better, [[B]] if assistant B is better, [[C]] for a tie. My verdict: [[A]]", A),
        ("Assistant A is better: A is right and [A] is complete, while (B) is not.\n[[B]]", B),
        ("My verdict is [[A]].\n\nAssistant B is polite all the same. [B] [C]", A),
        ("[[a]]", A),
        ("[[ B ]]", B),
        ("[ [\nc\t] ]", TIE),
    ],
)
def test_the_last_tag_counts_and_bare_labels_do_not(text, expected):
    assert meaning(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[A>>B]]", (1, True)),
        ("[[A>B]]", (1, False)),
        ("[[A > > B]]", (1, True)),
        ("[[ a>b ]]", (1, False)),
        ("[[A=B]]", (0, True)),
        ("[[B>A]]", (-1, False)),
        ("[[B>>A]]", (-1, True)),
        ("[[A<<B]]", (-1, True)),
        ("[[A>>B]] would be too much: [[A>B]]", (1, False)),
        ("[[A>B]] is too weak: [[A>>B]]", (1, True)),
        ("[[A>>>B]]", NOTHING),
        ("[[A]]", NOTHING),
        ("[[A>A]]", NOTHING),
    ],
)
def test_strong_and_slight_preferences_are_told_apart(text, expected):
    assert meaning(text, "verdict-scale") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Both are fine.\n<verdict>TIE</verdict>", TIE),
        ("<Verdict> a </Verdict>", A),
        ("<verdict>A</verdict> if response A is better\n<verdict>B</verdict> if ...\n\n<verdict>B</verdict>", B),
        ("<verdict>Response A</verdict>", NOTHING),
        ("<verdict>A", NOTHING),
    ],
)
def test_the_default_template_is_read_by_its_own_tags(text, expected):
    assert meaning(text, "default") == expected


@unhurried
@given(st.text(), st.sampled_from(sorted(TAGS)), st.data(), st.sampled_from(["", " ", ".", "**", " for this reason", "\n\nThat is all."]))
def test_whatever_was_said_before_the_final_tag_decides(before, template, data, after):
    tag = data.draw(st.sampled_from(sorted(TAGS[template])))
    before = before.replace("</think>", "").replace("<think>", "")
    grade = TAGS[template][tag]
    assert meaning(f"{before} {tag}{after}", template) == (grade.preferred, grade.strong)


def test_a_users_own_tag_is_read_character_by_character_not_as_a_pattern():
    tags = {".*(first)+": Grade(preferred=1), "b|c": Grade(preferred=-1)}
    assert read_reply(Reply(text="first"), tags).status is ReadingStatus.UNPARSEABLE
    assert read_reply(Reply(text="it is .*(first)+"), tags).preferred == 1
    assert read_reply(Reply(text="b"), tags).status is ReadingStatus.UNPARSEABLE


def test_of_two_tags_of_which_one_begins_the_other_the_longer_is_read():
    tags = {"Better: A": Grade(preferred=1), "Better: A, slightly": Grade(preferred=1, strong=False), "Better: B": Grade(preferred=-1)}
    assert not read_reply(Reply(text="Better: A, slightly"), tags).strong
    assert read_reply(Reply(text="Better: A, clearly"), tags).strong


# Thinking aloud


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>[[A]] looks good at first.</think>The better one is [[B]]", B),
        ("\n <think>\n[[A]]\n</think>\n\n[[B]]", B),
        ("\n <think>\n[[A]]\n</think>\n\nNo verdict.", NOTHING),
        ("<think>[[A]] for sure</think> I would rather not say.", NOTHING),
        ("<think>[[A]] or [[B]], I am still at it", NOTHING),
        ("It must be [[A]]. No, wait.</think>[[B]]", B),
        ("It must be [[A]].</think>", NOTHING),
        ("Response A wraps its work in <think>...</think> tags, which is odd. [[B]]", B),
        ("[[B]], because response A shows its <think>...</think> block.", B),
        ("Response A never closes its <think> tag. [[B]]", B),
        ("<think></think>[[C]]", TIE),
    ],
)
def test_what_a_judge_thinks_aloud_is_never_its_verdict(text, expected):
    assert meaning(text) == expected


def test_a_verdict_in_the_reasoning_alone_is_no_verdict():
    assert read("", reasoning="Clearly [[A]].").status is ReadingStatus.UNPARSEABLE
    assert meaning("[[B]]", reasoning="Clearly [[A]].") == B


@unhurried
@given(st.text(alphabet="ab <>/[]\n"), st.text(alphabet="ab []\n"))
def test_thinking_that_ends_is_cut_off_up_to_its_end(thought, said):
    thought = thought.replace("</think>", "")
    assert visible_text(f"<think>{thought}</think>{said}") == said
    assert visible_text(f"{thought.replace('<think>', '')}</think>{said}") == said
    assert visible_text(said) == said


# Replies without a verdict


@pytest.mark.parametrize("text", ["", " \n", "I cannot decide.", "A", "[A]", "[[D]]", "[[A]", "[[]]", "null"])
def test_a_reply_without_a_tag_is_unparseable(text):
    assert read(text) == Reading(status=ReadingStatus.UNPARSEABLE, parser_version=PARSER_VERSION)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ({"finish_reason": "length"}, ReadingStatus.TRUNCATED),
        ({"finish_reason": "content_filter"}, ReadingStatus.REFUSED),
        ({"refusal": "I can't help with that."}, ReadingStatus.REFUSED),
        ({"refusal": "No.", "finish_reason": "length"}, ReadingStatus.REFUSED),
        ({"refusal": "", "finish_reason": "length"}, ReadingStatus.TRUNCATED),
    ],
)
@pytest.mark.parametrize("text", ["", "Final verdict: [[A]]"])
def test_a_reply_that_was_cut_off_or_refused_is_no_verdict_even_with_a_tag(text, reply, status):
    assert read(text, **reply) == Reading(status=status, parser_version=PARSER_VERSION)


@pytest.mark.parametrize("finish_reason", ["stop", None, "tool_calls", "eos", ""])
def test_every_other_end_of_a_reply_lets_its_tag_count(finish_reason):
    assert meaning("[[A]]", finish_reason=finish_reason) == A


# Any text


@pytest.mark.parametrize("template", sorted(TAGS))
@unhurried
@given(st.text() | st.text(alphabet="[]AB><=C verdicthnkTIE/\n"))
def test_any_text_is_read_without_an_error(template, text):
    reading = read(text, template)
    assert (reading.status is ReadingStatus.OK) == (reading.preferred is not None)


MEGABYTE = 1_000_000


@pytest.mark.parametrize("template", ["default", "verdict-scale"])
@pytest.mark.parametrize("unit", [" ", "[ ", "[ [ A ", "[[A>>B]", "<verdict>", "</think>", "[" + " " * 999])
def test_a_megabyte_made_to_confuse_the_parser_hides_no_tag(template, unit):
    tag, grade = next(iter(TAGS[template].items()))
    assert meaning(unit * (MEGABYTE // len(unit)) + tag, template) == (grade.preferred, grade.strong)


def test_a_megabyte_of_unclosed_thoughts_is_no_verdict():
    assert read("<think>[[A]]" * (MEGABYTE // 12)).status is ReadingStatus.UNPARSEABLE


@pytest.mark.parametrize("template", sorted(TAGS))
def test_a_tag_with_a_megabyte_of_white_space_inside_is_still_a_tag(template):
    tag, grade = next(iter(TAGS[template].items()))
    assert meaning(tag[0] + " " * MEGABYTE + tag[1:], template) == (grade.preferred, grade.strong)
