"""The in-process judge keeps the contract of its port, and the contract notices a judge that does not."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from judgeflow.testing import JudgeContract, ScriptedJudge, VirtualClock
from judgeflow.types import Reply


class TestScriptedJudge(JudgeContract):
    @asynccontextmanager
    async def open_judge(self, *, faults=(), model="judge-one", template="default"):
        judge = ScriptedJudge(faults=faults, model=model, template=template, prompt_usd_per_mtok=1.0, completion_usd_per_mtok=4.0)
        yield judge
        await judge.aclose()


class TestScriptedJudgeInVirtualTime(TestScriptedJudge):
    def run(self, main):
        VirtualClock().run(main)


class _Nameless(ScriptedJudge):
    """Forgets what it is."""

    @property
    def identity(self):
        return replace(super().identity, fingerprint=b"judge")


class _Silent(ScriptedJudge):
    """Returns None instead of raising."""

    async def ask(self, question):
        try:
            return await super().ask(question)
        except Exception:
            return None


class _Cheap(ScriptedJudge):
    """Promises less than it takes."""

    def cost(self, question):
        return replace(super().cost(question), tokens=1)


class _Retrying(ScriptedJudge):
    """Tries again by itself."""

    async def ask(self, question):
        try:
            return await super().ask(question)
        except Exception:
            return await super().ask(question)


class _Muddled(ScriptedJudge):
    """Answers whatever it likes when asked many things at once."""

    async def ask(self, question):
        reply = await super().ask(question)
        await asyncio.sleep(0)
        busy = len(asyncio.all_tasks()) > 2
        return Reply(text="<verdict>A</verdict>") if busy else reply


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (_Nameless, "test_the_fingerprint_names_the_model_and_the_template"),
        (_Silent, "test_every_failed_attempt_raises_its_error_and_the_next_one_works"),
        (_Cheap, "test_the_cost_is_a_worst_case_that_no_reply_passes"),
        (_Retrying, "test_an_ask_is_one_attempt_that_never_retries_by_itself"),
        (_Muddled, "test_concurrent_questions_each_get_their_own_answer"),
    ],
)
def test_a_judge_that_breaks_a_promise_fails_the_contract(broken, test):
    class Contract(JudgeContract):
        @asynccontextmanager
        async def open_judge(self, *, faults=(), model="judge-one", template="default"):
            yield broken(faults=faults, model=model, template=template)

    with pytest.raises(AssertionError):
        getattr(Contract(), test)()
