"""Who may answer a trainer that asks judgeflow for its rewards, for the case `trainer_step`.

    store        every verdict is stored, and nobody can be asked
    service      the same, answered by `judgeflow serve --route` in another process
    scorer       the scorer in the folder has the only word (policy never)
    judge        both orders of every pair are asked, and every reply committed to a new database file

Each is a configuration file, and what a user would make of it.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

from benchmarks.clients import Texts
from benchmarks.contest import Prepared

_ROOT = Path(__file__).parent.parent
_NOBODY = "http://127.0.0.1:9/v1"
_MANY = 10**9

DECIDES = {"store": "store", "service": "store", "scorer": "scorer", "judge": "judge"}
"""What outcomes say who decided."""


class Source:
    """One of them, run after run; it ends with the process."""

    def __init__(self, name: str, base_url: str, folder: str) -> None:
        self._name, self._judge, self._folder = name, base_url, Path(folder)
        self._runs = itertools.count()
        self._opened = ExitStack()

    @property
    def renews(self) -> bool:
        """Whether it must not have been asked before."""
        return self._name == "judge"

    def know(self, ask: Callable[[Any], object]) -> None:
        """Have the judge asked once, where verdicts are to be stored; nobody can ask it from then on."""
        if DECIDES[self._name] != "store":
            return
        with _router("store", self._configuration()) as router:
            ask(router)
        self._judge = _NOBODY

    def new_run(self) -> Any:
        """End the last run, and return what routes groups as a new one."""
        self._opened.close()
        return self._opened.enter_context(_router(self._name, self._configuration()))

    def check(self, figures: Mapping[str, float]) -> None:
        """Raise `RuntimeError` unless all pairs of a logged call were decided by whom they should be."""
        pairs, found = figures["judgeflow/pairs"], figures[f"judgeflow/source/{DECIDES[self._name]}"]
        if found != pairs:
            raise RuntimeError(f"{self._name}: {found:g} of {pairs:g} pairs were decided by the {DECIDES[self._name]}")

    def _configuration(self) -> Path:
        run = f"run-{next(self._runs)}"
        directory = self._folder / run if self.renews else self._folder
        directory.mkdir(exist_ok=True)
        lines = ["[run]", f'name = "{run}"', f'directory = "{directory}"']
        lines += ["[judge]", 'id = "quick-judge"', f'base_url = "{self._judge}"', 'model = "quick-judge"']
        lines += ["[limits]", f"requests_per_minute = {_MANY}", "[budget]", f"requests = {_MANY}"]
        if self._name == "scorer":
            lines += ["[scorer]", f'path = "{self._folder / "scorer"}"']
        lines += ["[routing]", f'policy = "{"never" if self._name == "scorer" else "always"}"']
        path = self._folder / f"{run}.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


@contextmanager
def _router(source: str, configuration: Path) -> Iterator[Any]:
    if source == "service":
        from judgeflow.client import RouteClient

        with _service(configuration) as address, RouteClient(address) as client:
            yield client
    else:
        from judgeflow import Scheduler

        with Scheduler.from_config(configuration) as scheduler:
            yield scheduler


@contextmanager
def _service(configuration: Path) -> Iterator[str]:
    """Run one, which ends with the block or with this process; yields its address."""
    serve = [sys.executable, "-m", "judgeflow", "serve", "--route", "--config", str(configuration), "--port", "0"]
    until_end_of_input = ["sh", "-c", '"$@" & read -r _; kill $!; wait', "serve", *serve]
    with subprocess.Popen(until_end_of_input, cwd=_ROOT, stdin=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdin is not None  # for the type checker
        assert process.stderr is not None
        try:
            yield process.stderr.readline().split()[3].rstrip("/")
        finally:
            process.stdin.close()


def alone(source: str, base_url: str, folder: str, *, prompts: int, responses: int, seed: int) -> Prepared:
    """One call of the reward function, as TRL makes it, about so many prompts with so many responses; a text has 700 characters."""
    from judgeflow.adapters.trl import judge_reward
    from judgeflow.engine.loop_thread import LoopThread

    texts, trainers_loop, judged = Texts(seed), LoopThread(), Source(source, base_url, folder)
    batch: dict[str, list[str]] = {}
    logged: dict[str, float] = {}

    def renew() -> None:
        batch["prompts"] = [prompt for prompt in [texts.next() for _ in range(prompts)] for _ in range(responses)]
        batch["completions"] = [texts.next() for _ in batch["prompts"]]

    def ask(reward: Any) -> None:
        trainers_loop.run(reward(**batch, log_metric=logged.__setitem__, log_extra=lambda *_: None))

    def rewarding(router: Any) -> Any:
        return judge_reward(router, num_generations=responses)

    renew()
    judged.know(lambda router: ask(rewarding(router)))
    reward = rewarding(judged.new_run())

    def run() -> None:
        ask(reward)
        judged.check(logged)

    return Prepared(run=run, before=renew if judged.renews else None)
