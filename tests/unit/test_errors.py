import inspect
import pickle
import re

import pytest

from judgeflow import errors
from judgeflow.errors import (
    GatewayFailed,
    JudgeError,
    JudgeflowError,
    JudgeOverloaded,
    RateLimited,
    RecordError,
    ReplyLost,
    TransientJudgeError,
)

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__]


def drawn_tree():
    """{class name: parent's name} as the module docstring draws it."""
    parents, path = {}, []
    for line in errors.__doc__.splitlines():
        drawn = re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line)
        if drawn:
            depth = len(drawn[1]) // 4
            path = [*path[:depth], drawn[2]]
            parents[drawn[2]] = path[-2] if depth else "Exception"
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    assert drawn_tree() == {each.__name__: each.__bases__[0].__name__ for each in CLASSES}
    assert len(CLASSES) > 10


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_without_a_message_says_its_class_in_one_sentence(error):
    message = str(error())
    assert message == error.__doc__.splitlines()[0]
    assert message.endswith(".")


def test_an_error_says_what_it_was_given():
    assert str(RecordError("pairs.jsonl:3: prompt is missing")) == "pairs.jsonl:3: prompt is missing"


def test_a_rate_limit_carries_how_long_the_judge_wants_to_rest_also_across_processes():
    error = pickle.loads(pickle.dumps(RateLimited("slow down", retry_after_s=1.5)))
    assert isinstance(error, RateLimited)
    assert (str(error), error.retry_after_s) == ("slow down", 1.5)
    assert JudgeOverloaded().retry_after_s is None


def test_only_a_lost_reply_or_a_gateway_that_gave_up_may_have_been_paid_for():
    assert [each for each in CLASSES if issubclass(each, JudgeError) and each.maybe_paid] == [GatewayFailed, ReplyLost]


def test_every_way_the_judge_fails_has_a_label_of_its_own():
    concrete = [each for each in CLASSES if issubclass(each, JudgeError) and "status" in vars(each)]
    labels = [each.status for each in concrete]
    assert len(set(labels)) == len(labels) >= 7
    assert all(re.fullmatch(r"[a-z_]+", label) for label in labels)


def test_whoever_catches_the_base_class_catches_everything():
    assert all(issubclass(each, JudgeflowError) for each in CLASSES)
    assert not issubclass(RecordError, JudgeError)
    assert issubclass(RateLimited, TransientJudgeError)
