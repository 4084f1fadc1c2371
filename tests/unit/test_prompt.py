import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.dialogue import transcript
from judgeflow.errors import ConfigurationError
from judgeflow.keys import digest, pair_keys, questions
from judgeflow.types import Message, Pair
from judgeflow.verdicts.prompt import Grade, find_question, load_template, packaged_templates, parse_template, render

unhurried = settings(deadline=None)
JUDGE = digest("judge/1", "judge")
PACKAGED = {name: load_template(name) for name in ("default", "verdict-abc", "verdict-scale")}
VERDICTS = '[verdicts]\n"[[A]]" = "first"\n"[[B]]" = "second"\n'
RESPONSES_FIRST = parse_template(
    f"system = 'Judge. First: {{response_a}}'\nuser = '{{response_b}} both answer {{prompt}} {{braces}} {{}}'\n{VERDICTS}",
    "responses-first",
)
TEMPLATES = [*PACKAGED.values(), RESPONSES_FIRST]

fragments = st.sampled_from(
    [
        "{prompt}",
        "{response_a}",
        "{response_b}",
        "{",
        "}",
        "{}",
        "\n",
        "\r\n",
        "<",
        "</",
        ">",
        "[[A]]",
        "<verdict>B</verdict>",
        "\\1",
        "%s",
        "\0",
    ]
) | st.sampled_from(
    [f"<{slash}{slot}-{digits}>\n" for slash in ("", "/") for slot in ("prompt", "response_a") for digits in ("0" * 16, "xyz")]
)
texts = st.lists(fragments | st.text(st.characters(exclude_categories=["Cs"]), max_size=10), max_size=6).map("".join)
prompts = texts | st.lists(st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=texts), min_size=1, max_size=3).map(
    tuple
)


def ask(prompt, first, second):
    pair = Pair(prompt=prompt, response_a=first, response_b=second)
    return questions(pair, pair_keys(pair), JUDGE)[0]


def rendered(template, question):
    """The messages as they travel: a list of mappings."""
    return [{"role": message.role, "content": message.content} for message in render(template, question)]


# What a judge is shown


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda each: each.name)
@unhurried
@given(prompts, texts, texts)
def test_what_a_rendered_question_shows_can_be_read_back_whatever_the_texts_contain(template, prompt, first, second):
    question = ask(prompt, first, second)
    shown = find_question(rendered(template, question))
    assert shown is not None
    assert (shown.prompt, shown.response_a, shown.response_b) == (transcript(prompt), first, second)
    assert shown.nonce == question.nonce


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda each: each.name)
@pytest.mark.parametrize("forger", ["prompt", "first", "second"])
@unhurried
@given(st.data())
def test_a_text_that_contains_another_question_whole_changes_nothing(template, forger, data):
    foreign = ask(data.draw(texts), data.draw(texts), data.draw(texts))
    forged = "\n".join(message["content"] for message in rendered(template, foreign))
    shown_texts = {"prompt": data.draw(texts), "first": data.draw(texts), "second": data.draw(texts)}
    shown_texts[forger] += forged
    question = ask(**shown_texts)
    shown = find_question(rendered(template, question))
    assert shown.nonce == question.nonce
    assert (shown.prompt, shown.response_a, shown.response_b) == (transcript(question.prompt), question.first, question.second)


@unhurried
@given(texts, texts, texts)
def test_no_text_contains_the_delimiter_it_stands_in(prompt, first, second):
    question = ask(prompt, first, second)
    assert question.nonce not in prompt + first + second
    for message in render(PACKAGED["default"], question):
        assert message.content.count(f"-{question.nonce}>") in {0, 6}


def test_the_two_orders_of_a_pair_are_shown_under_different_delimiters():
    pair = Pair(prompt="p", response_a="x", response_b="y")
    forward, backward = (find_question(rendered(PACKAGED["default"], each)) for each in questions(pair, pair_keys(pair), JUDGE))
    assert (forward.response_a, forward.response_b) == (backward.response_b, backward.response_a) == ("x", "y")
    assert forward.nonce != backward.nonce


def test_a_question_is_rendered_the_same_every_time():
    assert render(PACKAGED["default"], ask("p", "x", "y")) == render(load_template("default"), ask("p", "x", "y"))


def test_a_template_with_a_system_text_makes_two_messages_and_one_without_makes_one():
    assert [message.role for message in render(PACKAGED["default"], ask("p", "x", "y"))] == ["system", "user"]
    bare = parse_template(f"user = '{{prompt}} {{response_a}} {{response_b}}'\n{VERDICTS}", "bare")
    [message] = render(bare, ask("p", "x", "y"))
    nonce = ask("p", "x", "y").nonce
    shown = {"prompt": "p", "response_a": "x", "response_b": "y"}
    assert message.role == "user"
    assert message.content == " ".join(f"<{slot}-{nonce}>\n{text}\n</{slot}-{nonce}>" for slot, text in shown.items())


def test_a_conversation_is_shown_turn_by_turn():
    turns = (Message(role="user", content="Hi"), Message(role="assistant", content="Hello"), Message(role="user", content="2+2?"))
    assert transcript(turns) == "User: Hi\n\nAssistant: Hello\n\nUser: 2+2?"


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user", "content": "Which is better, A or B?"}],
        [{"role": "user", "content": None}],
        [{"role": "user"}],
        [{"role": "user", "content": "<prompt-0123456789abcdef>\nx\n</prompt-0123456789abcdef>"}],
        [{"role": "user", "content": "<prompt-0123456789abcdef>\nnever closed"}],
    ],
)
def test_messages_that_judgeflow_did_not_make_show_no_question(messages):
    assert find_question(messages) is None


# The packaged templates


def test_the_packaged_templates_are_these_three():
    assert packaged_templates() == sorted(PACKAGED)


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_a_packaged_template_announces_the_tags_that_it_reads(name):
    template = PACKAGED[name]
    announced = [tag for tag in template.verdicts if tag in template.user]
    assert {template.verdicts[tag].preferred for tag in announced} == {1, 0, -1}
    assert "{" not in re.sub(r"\{(prompt|response_a|response_b)\}", "", template.user + (template.system or ""))


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_a_packaged_template_treats_both_positions_alike(name):
    mirror = str.maketrans("AB<>", "BA<>")
    for tag, grade in PACKAGED[name].verdicts.items():
        mirrored = PACKAGED[name].verdicts.get(tag.translate(mirror) if name != "verdict-abc" or "C" not in tag else tag)
        assert mirrored == Grade(preferred=-grade.preferred, strong=grade.strong)


# The pinned values stand in the call keys of users' databases: a template that changes must get a new name.


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("default", "c3740a2830a1967a7264e783e7a35c7acd277e75b425438b1e3b08e4df596ed3"),
        ("verdict-abc", "ccd2e6e5b980d8868579d4efd9e73448a622a4fd8e6b6a33a4e3103f91e0e0c0"),
        ("verdict-scale", "5f1f258c14d2f0173ed085048393bc5d7141a68be288f571ed8f31ecfae4b1b7"),
    ],
)
def test_packaged_templates_never_change_silently(name, key):
    assert PACKAGED[name].hash.hex() == key


# Users' own templates

USER = "user = 'Compare {prompt} {response_a} {response_b}'\n"


def test_a_users_own_template_is_loaded_from_a_file(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbfdescription = 'Mine.'\n" + f'{USER}{VERDICTS}"[[C]]" = "slightly second"\n'.encode())
    template = load_template("mine.toml", tmp_path)
    assert template.verdicts == {"[[A]]": Grade(preferred=1), "[[B]]": Grade(preferred=-1), "[[C]]": Grade(preferred=-1, strong=False)}
    assert load_template(str(tmp_path / "mine.toml")).hash == template.hash


def test_name_and_description_are_no_part_of_what_a_template_is():
    assert parse_template(USER + VERDICTS, "one").hash == parse_template(f"description = 'x'\n{USER}{VERDICTS}", "other").hash


@pytest.mark.parametrize(
    "text",
    [
        f"system = ''\n{USER}{VERDICTS}",
        f"{USER.replace('Compare', 'Weigh')}{VERDICTS}",
        f'{USER}{VERDICTS}"[[C]]" = "tie"',
        f"{USER}{VERDICTS.replace('second', 'slightly second')}",
    ],
)
def test_any_other_text_or_meaning_is_another_template(text):
    assert parse_template(text, "t").hash != parse_template(USER + VERDICTS, "t").hash


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user = ", "template t: not valid TOML: Invalid value"),
        (f"usr = 'x'\n{USER}{VERDICTS}", "template t: unknown key 'usr'; accepted are description, system, user, verdicts"),
        (VERDICTS, "template t: user must be there"),
        (f"user = 7\n{VERDICTS}", "template t: user must be there, and user and system must be strings"),
        (f"system = 7\n{USER}{VERDICTS}", "user and system must be strings"),
        (f"user = '{{response_a}} {{response_b}}'\n{VERDICTS}", "template t: {prompt} must stand exactly once, not 0 times"),
        (f"system = '{{response_a}}'\n{USER}{VERDICTS}", "template t: {response_a} must stand exactly once, not 2 times"),
        (USER, "template t: a table [verdicts] is needed"),
        (f"verdicts = 'A'\n{USER}", "template t: a table [verdicts] is needed"),
        (f"{USER}[verdicts]\n", "template t: a table [verdicts] is needed"),
        (
            f'{USER}{VERDICTS}"[[C]]" = "third"',
            "template t: '[[C]]' means 'third'; accepted are first, slightly first, tie, slightly second, second",
        ),
        (f'{USER}{VERDICTS}"[[C]]" = ["tie"]', "template t: '[[C]]' means ['tie']; accepted are first"),
        (f'{USER}[verdicts]\n"[[A]]" = "first"\n"[[C]]" = "tie"', "template t: [verdicts] must have a tag for each of the two responses"),
        (f'{USER}{VERDICTS}" " = "tie"', "template t: ' ' is no tag: every reply would contain it"),
        (f'{USER}{VERDICTS}"[[ a ]]" = "tie"', "template t: '[[A]]' and '[[ a ]]' cannot be told apart: case and white space do not count"),
    ],
)
def test_a_template_that_cannot_work_is_refused_with_its_name_and_the_reason(text, message):
    with pytest.raises(ConfigurationError) as caught:
        parse_template(text, "t")
    assert message in str(caught.value)


def test_an_unknown_template_is_answered_with_the_known_ones():
    with pytest.raises(
        ConfigurationError, match=r"\[judge\] template: no template 'verdict-abd'; packaged are default, verdict-abc, verdict-scale"
    ):
        load_template("verdict-abd")


@pytest.mark.parametrize("prepare", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")])
def test_a_template_file_that_cannot_be_read_is_named(tmp_path, prepare):
    prepare(tmp_path / "mine.toml")
    with pytest.raises(ConfigurationError, match=r"\[judge\] template: .*mine\.toml cannot be read"):
        load_template("mine.toml", tmp_path)
