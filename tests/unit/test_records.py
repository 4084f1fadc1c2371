import codecs
import gzip
import json
import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.errors import RecordError, UsageError
from judgeflow.keys import pair_keys
from judgeflow.records import BadRecord, outcome_line, outcome_record, pair_from_record, parse_pair, read_pairs
from judgeflow.types import Call, JudgeIdentity, Message, Outcome, Pair, Preference, Reading, ReadingStatus, Reply, Usage, Verdict

unhurried = settings(deadline=None)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
answers = texts.filter(str.strip)
GOOD = b'{"prompt": "p", "response_a": "x", "response_b": "y"}'


@pytest.fixture
def file(tmp_path):
    """Write a file of these bytes."""

    def write(content):
        path = tmp_path / "pairs.jsonl"
        path.write_bytes(content)
        return path

    return write


def record(**changes):
    return {"prompt": "p", "response_a": "x", "response_b": "y", **changes}


def line(**changes):
    return json.dumps(record(**changes)).encode()


# Good input


def test_a_record_becomes_a_pair_and_unknown_keys_its_metadata():
    pair = parse_pair(line(id="7", group="g", label="tie", category="code", source={"set": "bench"}))
    assert pair == Pair(prompt="p", response_a="x", response_b="y")
    assert (pair.id, pair.group, pair.label) == ("7", "g", "tie")
    assert pair.metadata == {"category": "code", "source": {"set": "bench"}}


def test_numbers_serve_as_ids_and_null_as_nothing():
    pair = parse_pair(line(id=7, group=None, label=None))
    assert (pair.id, pair.group, pair.label) == ("7", None, None)


def test_a_conversation_is_read_as_messages():
    pair = parse_pair(line(prompt=[{"role": "user", "content": "Hi"}]))
    assert pair.prompt == (Message(role="user", content="Hi"),)


def test_a_line_may_be_text_or_bytes():
    assert parse_pair(GOOD) == parse_pair(GOOD.decode())


def test_pairs_come_in_the_order_of_the_file(file):
    pairs, bad = read_pairs(file(b"\n".join(line(id=n) for n in range(50))))
    assert [pair.id for pair in pairs] == [str(n) for n in range(50)]
    assert bad == []


@pytest.mark.parametrize(
    "content",
    [
        GOOD + b"\n" + GOOD,
        GOOD + b"\r\n" + GOOD + b"\r\n",
        b"\n\n" + GOOD + b"\n   \n\r\n" + GOOD + b"\n\n",
        codecs.BOM_UTF8 + GOOD + b"\n" + GOOD + b"\n",
        codecs.BOM_UTF8 + b"\n" + GOOD + b"\n" + GOOD + b"\n",
    ],
    ids=["no last newline", "CRLF", "blank lines", "BOM", "BOM and blank line"],
)
def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter(file, content):
    pairs, bad = read_pairs(file(content))
    assert pairs == [Pair(prompt="p", response_a="x", response_b="y")] * 2
    assert bad == []


def test_a_response_of_a_megabyte_is_read_whole(file):
    text = "né\n" * 350_000
    pairs, _ = read_pairs(file(line(response_a=text)))
    assert pairs[0].response_a == text


# Bad input


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not valid JSON: "),
        (b"hello world", "not JSON, it begins with 'hello world'; one JSON object a line is expected, such as {\"prompt\": "),
        (b" not json", "not JSON, it begins with 'not json'; one JSON object a line is expected"),
        (b"said \x1b[31m" + b"red " * 99, "not JSON, it begins with 'said \\x1b[31mred red red red red red red re'...; "),
        (GOOD[:-1], "not valid JSON: "),
        (GOOD + GOOD, "not valid JSON: "),
        (GOOD.replace(b'"x"', b"NaN"), "not valid JSON: "),
        (GOOD.replace(b'"x"', b'"\\ud800"'), "not valid JSON: "),
        (GOOD.replace(b'"x"', b'"\xff"'), "not UTF-8: invalid start byte at byte 32"),
        (GOOD.replace(b'"x"', b'"\xed\xa0\x80"'), "not UTF-8: invalid continuation byte at byte 32"),
        (b"[1]", "a record is a JSON object, not an array"),
        (b'"text"', "a record is a JSON object, not a string"),
        (b"null", "a record is a JSON object, not null"),
        (b"{}", "prompt, response_a, response_b is missing; a record needs prompt, response_a and response_b"),
        (b'{"prompt": "p", "response_a": "x"}', "response_b is missing"),
        (line(response_a=""), "response_a is empty"),
        (line(response_b=" \n\t"), "response_b is empty"),
        (line(response_a=None), "response_a is null; it should be a string"),
        (line(response_a=["x"]), "response_a: a message has 'role' and 'content', it is not str"),
        (line(response_b=1.5), "response_b is a number; it should be a string"),
        (line(label="A"), 'label is \'A\'; accepted are "a", "b" and "tie"'),
        (line(label=1), "label is 1; accepted are"),
        (line(label=["a"]), "label is ['a']; accepted are"),
        (line(label={}), "label is {}; accepted are"),
        (line(id=["7"]), "id is an array; it should be a string"),
        (line(id=True), "id is a boolean; it should be a string"),
        (line(group=1.5), "group is a number; it should be a string"),
        (line(prompt=7), "prompt: a prompt is a text or a list of messages, not int"),
        (line(prompt=None), "prompt is missing; where another column holds it, say so: --columns prompt=NAME"),
        (line(prompt={"role": "user", "content": "Hi"}), "prompt: a prompt is a text or a list of messages, not dict"),
        (line(prompt=[]), "prompt: a prompt given as messages needs at least one message"),
        (line(prompt=[{"role": "user", "content": [1]}]), "prompt: a message has a part of type int; the judge is shown text only"),
    ],
)
def test_a_record_that_cannot_be_used_is_named_with_file_line_and_reason(file, content, reason):
    path = file(GOOD + b"\n\n" + content + b"\n" + GOOD)
    with pytest.raises(RecordError) as caught:
        read_pairs(path)
    assert str(caught.value).startswith(f"{path}:3: {reason}")
    pairs, bad = read_pairs(path, on_bad_record="skip")
    assert len(pairs) == 2
    assert [each.line for each in bad] == [3]
    assert bad[0].reason.startswith(reason)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize(("text", "column"), [('{"prompt": oops}', 12), ('{"prompt": "cut off', 20), ('{"prompt": ', 12)])
def test_malformed_json_is_located_by_its_column_not_by_a_second_line_number(text, column, end):
    for content in (text + end, (text + end).encode()):
        with pytest.raises(ValueError, match="not valid JSON: ") as caught:
            parse_pair(content)
        assert str(caught.value).endswith(f"at column {column}")


def test_up_to_ten_bad_lines_are_named_and_the_rest_counted(file):
    path = file(b"\n".join([GOOD, *[b"{"] * 13]))
    with pytest.raises(RecordError) as caught:
        read_pairs(path)
    named = [each for each in str(caught.value).splitlines() if each.startswith(str(path))]
    assert [each.split(":")[1] for each in named] == [str(number) for number in range(2, 12)]
    assert "... and 3 more" in str(caught.value)
    assert str(caught.value).endswith("Nothing was begun. Mend the records, or leave them out with --on-bad-record skip.")


def test_skipped_records_are_returned_in_order(file):
    content = b"\n".join([b"{}", GOOD, line(response_a=""), GOOD])
    pairs, bad = read_pairs(file(content), on_bad_record="skip")
    assert len(pairs) == 2
    assert bad[1] == BadRecord(line=3, reason="response_a is empty")
    assert [each.line for each in bad] == [1, 3]


@pytest.mark.parametrize("content", [b"", b"\n \r\n", codecs.BOM_UTF8])
@pytest.mark.parametrize("on_bad_record", ["fatal", "skip"])
def test_a_file_without_records_is_an_error(file, content, on_bad_record):
    with pytest.raises(RecordError, match=r"pairs\.jsonl: holds no usable pair; one JSON object a line is expected, such as"):
        read_pairs(file(content), on_bad_record=on_bad_record)


def test_a_file_of_bad_records_only_says_what_is_wrong_with_each(file):
    path = file(line(response_a="") + b"\n{\n{}")
    with pytest.raises(RecordError) as caught:
        read_pairs(path, on_bad_record="skip")
    told = str(caught.value).splitlines()
    assert told[0] == f"{path}: holds no usable pair"
    assert [each.removeprefix(f"{path}:")[:10] for each in told[1:]] == ["1: respons", "2: not val", "3: prompt,"]


def test_bad_records_before_the_place_where_a_file_breaks_are_named_too(tmp_path):
    path = tmp_path / "pairs.jsonl.gz"
    many = [str(number).encode() * 50 for number in range(2_000)]  # so much that what is cut off was not read ahead
    path.write_bytes(gzip.compress(b"\n".join([GOOD, b"{", line(response_a=""), *map(_good, many)]))[:-9])
    with pytest.raises(RecordError) as caught:
        read_pairs(path)
    places = [each.removeprefix(f"{path}:").partition(":")[0] for each in str(caught.value).splitlines()]
    assert places == ["2", "3", " cannot be read"]


def _good(text: bytes) -> bytes:
    return GOOD.replace(b'"x"', b'"' + text + b'"')


def test_a_folder_instead_of_a_file_is_told(tmp_path):
    with pytest.raises(RecordError, match="cannot be read: Is a directory"):
        read_pairs(tmp_path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(RecordError, match=r"nowhere\.jsonl: cannot be read: No such file or directory"):
        read_pairs(tmp_path / "nowhere.jsonl")


@unhurried
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_line_is_a_pair_or_a_reason(content):
    try:
        assert isinstance(parse_pair(content), Pair)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either way is right


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)
)


@unhurried
@given(st.sampled_from(["prompt", "response_a", "response_b", "label", "id", "group", "category"]), json_values)
def test_any_value_in_any_field_is_a_pair_or_a_reason(key, value):
    content = json.dumps(record(**{key: value}))
    try:
        assert isinstance(parse_pair(content), Pair)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either way is right


# Outcomes


JUDGE = JudgeIdentity(id="https://example.org m", model="m", fingerprint=b"f")


def call(preferred, *, prompt=100, completion=10, latency_s=1.0):
    return Call(
        key=b"k",
        pair_key=b"p",
        judge=b"f",
        canonical=True,
        reply=Reply(text="raw", usage=Usage(prompt=prompt, completion=completion, reasoning=5), latency_s=latency_s),
        reading=Reading(status=ReadingStatus.OK, preferred=preferred),
        created_at=0.0,
    )


def test_an_outcome_of_the_judge_carries_its_choices_tokens_and_latency():
    pair = Pair(prompt="p", response_a="x", response_b="y", id="7", label="a", metadata={"category": "code", "other": 1})
    verdict = Verdict(choice="a", logit=2.0, judge=JUDGE, forward=call(1, latency_s=1.5), backward=call(-1, prompt=101, latency_s=0.5))
    belief = Preference(logit=0.25, uncertainty=1.5)
    assert outcome_record(Outcome(pair=pair, logit=2.0, source="judge", preference=belief, verdict=verdict)) == {
        "id": "7",
        "prompt": "p",
        "response_a": "x",
        "response_b": "y",
        "label": "a",
        "category": "code",
        "source": "judge",
        "status": "ok",
        "logit": 2.0,
        "probability": pytest.approx(0.8807970779778823),
        "uncertainty": 1.5,
        "audit": False,
        "choice": "a",
        "choice_ab": "a",
        "choice_ba": "a",
        "judge": "https://example.org m",
        "swapped_agree": True,
        "prompt_tokens": 201,
        "completion_tokens": 20,
        "latency_ms": 1500.0,
    }


@pytest.mark.parametrize(
    ("forward", "backward", "choices"), [(1, 1, ("a", "b")), (0, -1, ("tie", "a")), (-1, 0, ("b", "tie")), (None, 1, (None, "b"))]
)
def test_both_directed_choices_are_told_in_terms_of_the_pair(forward, backward, choices):
    verdict = Verdict(
        choice="inconsistent", logit=0.0, judge=JUDGE, forward=None if forward is None else call(forward), backward=call(backward)
    )
    found = outcome_record(Outcome(pair=Pair(prompt="p", response_a="x", response_b="y"), logit=0.0, source="judge", verdict=verdict))
    assert (found["choice_ab"], found["choice_ba"]) == choices


def test_an_outcome_without_a_judge_leaves_its_fields_null_and_its_tokens_zero():
    outcome = Outcome(pair=Pair(prompt="p", response_a="x", response_b="y"), logit=0.0, source="fallback", status="deadline")
    found = outcome_record(outcome)
    assert (found["source"], found["status"]) == ("fallback", "deadline")
    assert [found[key] for key in ("choice", "choice_ab", "choice_ba", "judge", "swapped_agree", "uncertainty")] == [None] * 6
    assert (found["prompt_tokens"], found["completion_tokens"], found["latency_ms"]) == (0, 0, 0.0)
    assert "id" not in found


def test_a_logit_of_nothing_is_written_without_a_sign():
    outcome = Outcome(pair=Pair(prompt="p", response_a="x", response_b="y"), logit=-0.0, source="judge")
    assert b'"logit":0.0,' in outcome_line(outcome)


prompts = texts | st.lists(st.builds(Message, role=texts, content=texts), min_size=1, max_size=3).map(tuple)


@unhurried
@given(prompts, answers, answers, st.none() | texts, st.sampled_from(["a", "b", "tie", None]), st.floats(-10, 10))
def test_an_outcome_line_is_one_line_that_reads_back_as_its_pair(prompt, first, second, name, label, logit):
    pair = Pair(prompt=prompt, response_a=first, response_b=second, id=name, label=label)
    written = outcome_line(Outcome(pair=pair, logit=logit, source="scorer"))
    assert written.count(b"\n") == 1
    assert written.endswith(b"\n")
    again = parse_pair(written)
    assert again == pair
    assert (again.id, again.label) == (name, label)
    assert again.metadata["logit"] == logit


# Chosen and rejected


def test_chosen_and_rejected_become_two_responses_and_a_label_whose_place_says_nothing():
    pairs = [pair_from_record({"prompt": "p", "chosen": f"good {n}", "rejected": f"bad {n}"}) for n in range(200)]
    assert all({"a": pair.response_a, "b": pair.response_b}[pair.label].startswith("good") for pair in pairs)
    assert 60 < sum(pair.label == "a" for pair in pairs) < 140
    assert all(pair_keys(pair).canonical for pair in pairs)


def test_chosen_and_rejected_may_be_whole_conversations_that_begin_alike():
    question = {"role": "user", "content": "Which?"}
    pair = pair_from_record(
        {"chosen": [question, {"role": "assistant", "content": "yes"}], "rejected": [question, {"role": "assistant", "content": "no"}]}
    )
    assert pair.prompt == (Message(role="user", content="Which?"),)
    assert {pair.response_a, pair.response_b} == {"yes", "no"}
    assert {"a": pair.response_a, "b": pair.response_b}[pair.label] == "yes"


def test_a_tie_between_chosen_and_rejected_stays_a_tie_and_strength_stays():
    pair = pair_from_record({"prompt": "p", "chosen": "x", "rejected": "y", "label": "tie", "strength": 0.5})
    assert (pair.label, pair.metadata) == ("tie", {"strength": 0.5})


def test_a_prompt_is_read_as_messages_where_conversational_says_so():
    body = '[{"content":"Hi","role":"user"}]'
    assert parse_pair(line(prompt=body, conversational=True)).prompt == (Message(role="user", content="Hi"),)
    assert parse_pair(line(prompt=body, conversational=False)).prompt == body
    assert parse_pair(line(prompt=body)).prompt == body


ANSWER = {"role": "assistant", "content": "x"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": "a"}, "label is 'a' beside chosen and rejected"),
        ({"chosen": ["x", "y"]}, "chosen: a message has 'role' and 'content', it is not str"),
        ({"rejected": []}, "rejected: a completion given as messages needs at least one message"),
        (
            {"rejected": [ANSWER, ANSWER | {"role": "user"}]},
            "rejected is a dialogue that does not end with a message of the assistant, but of the user",
        ),
        ({"rejected": " "}, "rejected is empty"),
        ({"chosen": [ANSWER | {"content": ""}]}, "chosen is empty"),
        ({"chosen": None}, "chosen is null; it should be a string"),
        ({"prompt": None}, "prompt is missing; where another column holds it"),
    ],
)
def test_what_is_wrong_with_a_preference_is_told_by_its_own_keys(changes, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        pair_from_record({"prompt": "p", "chosen": "x", "rejected": "y", **changes})


# Parquet


def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_parquet_file_is_read_as_the_same_pairs(tmp_path):
    rows = [record(id=str(n), label="a", prompt=[{"role": "user", "content": f"{n}?"}]) for n in range(600)]
    pairs, bad = read_pairs(parquet(tmp_path / "pairs.parquet", rows))
    assert [(pair.id, pair.label, pair.prompt[0].content) for pair in pairs] == [(str(n), "a", f"{n}?") for n in range(600)]
    assert bad == []


def test_a_bad_row_is_named_by_its_number(tmp_path):
    path = parquet(tmp_path / "pairs.parquet", [record(), record(response_b=" "), record()])
    with pytest.raises(RecordError, match=r"pairs\.parquet: row 2: response_b is empty"):
        read_pairs(path)
    assert read_pairs(path, on_bad_record="skip")[1] == [BadRecord(line=2, reason="response_b is empty")]


@pytest.mark.parametrize("content", [b"", b"no table at all", None])
def test_a_file_that_is_no_parquet_is_told(tmp_path, content):
    path = tmp_path / "pairs.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordError, match=r"pairs\.parquet: cannot be read"):
        read_pairs(path)


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = parquet(tmp_path / "pairs.parquet", [record()])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r'needs pyarrow: pip install "judgeflow\[parquet\]", or use JSONL'):
        read_pairs(path)
