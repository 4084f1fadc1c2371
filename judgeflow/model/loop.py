"""The training loop: one member's head, and its body if that is trained, down the gradient of the loss."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from judgeflow.errors import UsageError
from judgeflow.model.config import Schedule, TrainingConfig
from judgeflow.model.data import Examples, orders
from judgeflow.model.network import Network, out_of_memory
from judgeflow.model.preference import Judged
from judgeflow.model.resume import Keeper, State
from judgeflow.model.texts import Texts
from judgeflow.model.watch import Watch

_MEMBER_SEEDS = 7919


def schedule_factor(schedule: Schedule, step: int, *, warm: int, total: int) -> float:
    """Return the share of the learning rate that step `step` (from 0) of `total` takes: a rise over `warm` steps, then `schedule`."""
    if step < warm:
        return (step + 1) / warm
    gone = (step - warm) / max(1, total - warm)
    return {"cosine": 0.5 * (1.0 + math.cos(math.pi * gone)), "linear": 1.0 - gone, "constant": 1.0}[schedule]


def pair_loss(views: Sequence[Judged], examples: Examples) -> Tensor:
    """Return the logistic loss of pairs on the raw logits of all their views, weighted by their strengths."""
    logits = torch.stack([view.logit for view in views])
    target, strength = (part.to(logits).expand_as(logits) for part in (examples.target, examples.strength))
    return nn.functional.binary_cross_entropy_with_logits(logits, target, weight=strength)


def pair_accuracy(views: Sequence[Judged], examples: Examples) -> float:
    """Return the share of the pairs, ties left out, whose mean logit has the sign of the label; 0.5 of none."""
    logit = torch.stack([view.logit for view in views]).mean(dim=0)
    target = examples.target.to(logit) - 0.5
    decided = target != 0
    return float((logit * target > 0)[decided].float().mean()) if decided.any() else 0.5


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one member learns from: training and held-out examples, over the same texts."""

    member: int
    known: Examples
    held_out: Examples
    texts: Texts


@dataclass(slots=True)
class Best:
    """The best evaluation so far.  Changed by `Descent._evaluate` and `Descent._restore` only."""

    loss: float = math.inf
    stale: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


class Descent:
    """Minimises the loss of one member.  A run that is killed and one that is not take the same steps."""

    def __init__(self, network: Network, settings: TrainingConfig, lesson: Lesson, watch: Watch, keeper: Keeper) -> None:
        self._network = network
        self._settings = settings
        self._lesson = lesson
        self._watch = watch
        self._keeper = keeper
        self._best = Best()
        self.total = max(1, round(settings.epochs * len(lesson.known) / settings.batch))
        self._every = settings.evaluate_every or max(1, round(len(lesson.known) / settings.batch))
        self._warm = max(1, round(settings.warmup * self.total))
        groups = self._groups()
        self._rates = [group["lr"] for group in groups]
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)

    def _groups(self) -> list[dict[str, Any]]:
        member, network = self._lesson.member, self._network
        groups: list[dict[str, Any]] = [{"params": list(network.heads[member].parameters()), "lr": self._settings.lr}]
        if self._settings.backbone_lr is not None:
            body = network.encoders[member % len(network.encoders)]
            trained = [parameter for parameter in body.parameters() if parameter.requires_grad]
            groups.append({"params": trained, "lr": self._settings.backbone_lr})
        return groups

    def run(self, finished: Sequence[int] = (), state: State | None = None) -> int:
        """Train until the end or the early stop, from `state` if there is one; return the number of steps.

        `finished` has the numbers of steps of the members before.  The member's best weights are in place then, if they were looked for.
        Raises `UsageError` if the loss diverges or a step does not fit into memory, `KeyboardInterrupt` when the watch says stop.
        """
        done = self._restore(state) if state is not None else 0
        seed = self._settings.seed + _MEMBER_SEEDS * self._lesson.member
        batches = orders(len(self._lesson.known), self._settings.batch, seed)
        self._network.train()
        for step, chosen in enumerate(itertools.islice(batches, done, self.total), start=done + 1):
            if self._stopped:
                break
            self._step(step, self._lesson.known.part(chosen))
            done = step
            if self._evaluates(step):
                self._evaluate(step)
            self._watch.progress("training", self._lesson.member * self.total + step, self._network.members * self.total)
            self._keep(step, finished)
        self._network.eval()
        _put(self._network, self._best.weights)
        return done

    def _step(self, step: int, batch: Examples) -> None:
        started = time.monotonic()
        factor = schedule_factor(self._settings.schedule, step - 1, warm=self._warm, total=self.total)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._optimiser.zero_grad(set_to_none=True)
        chosen, places = torch.cat([batch.first, batch.second]).unique(return_inverse=True)
        with told_of_memory():
            loss = self.loss(batch, chosen, places)
            loss.backward()
            value = loss.item()
            if not math.isfinite(value):
                raise UsageError(f"training diverged: the loss of step {step} is {value}; try a smaller --lr")
            norm = nn.utils.clip_grad_norm_(self._parameters, self._settings.clip)
            self._optimiser.step()
        self._tell(
            "step",
            step,
            loss=value,
            lr=self._rates[-1] * factor,
            gradient_norm=float(norm),
            pairs=len(batch),
            tokens=self._lesson.texts.tokens(chosen),
            seconds=time.monotonic() - started,
        )

    def loss(self, batch: Examples, chosen: Tensor, places: Tensor) -> Tensor:
        """Return the loss of a batch, whose distinct texts are `chosen` and stand at `places` among them."""
        embeddings = self._network.noisy(self._lesson.texts.embed(chosen))
        first, second = places.to(embeddings.device).chunk(2)
        return pair_loss(self._network.judge(embeddings, first, second, self._lesson.member), batch)

    @property
    def _stopped(self) -> bool:
        return self._settings.patience is not None and self._best.stale >= self._settings.patience

    def _evaluates(self, step: int) -> bool:
        wanted = self._settings.patience is not None or self._settings.evaluate_every is not None
        return wanted and (step % self._every == 0 or step == self.total)

    def _evaluate(self, step: int) -> None:
        started = time.monotonic()
        loss, accuracy = self.held_out()
        better = loss < self._best.loss
        if self._settings.patience is not None and better:
            own = trained_tensors(self._network, self._settings, self._lesson.member)
            self._best.weights = {name: tensor.detach().clone() for name, tensor in own.items()}
        self._best.stale = 0 if better else self._best.stale + 1
        self._best.loss = loss if better else self._best.loss
        self._tell("evaluation", step, loss=loss, accuracy=accuracy, best=self._best.loss, seconds=time.monotonic() - started)

    @torch.no_grad()
    def held_out(self) -> tuple[float, float]:
        """Return the loss on the held-out pairs, without dropout, and the share of them that is preferred rightly."""
        held_out = self._lesson.held_out
        chosen, places = torch.cat([held_out.first, held_out.second]).unique(return_inverse=True)
        self._network.eval()
        embeddings = self._lesson.texts.embed_plain(chosen)
        self._network.train()
        first, second = places.to(embeddings.device).chunk(2)
        # A copy, in training mode: the bound is enforced there, and statistics that follow a forward pass stay out of the original.
        head = copy.deepcopy(self._network.heads[self._lesson.member])
        views = head.views(embeddings[first], embeddings[second])  # type: ignore[operator]
        return float(pair_loss(views, held_out)), pair_accuracy(views, held_out)

    def _tell(self, event: str, step: int, **values: float) -> None:
        self._watch.observe({"event": event, "step": step, "member": self._lesson.member, **values})

    def _keep(self, step: int, finished: Sequence[int]) -> None:
        stop = self._watch.stop()
        if stop or self._keeper.due():
            self._keeper.keep(self._state(step, finished))
        if stop:
            raise KeyboardInterrupt

    def _state(self, step: int, finished: Sequence[int]) -> State:
        tensors = dict(trained_tensors(self._network, self._settings))
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.weights.items()}
        for number, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"adamw.{number}.{name}": tensor for name, tensor in moments.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self._network.encoder.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self._network.encoder.device)
        return State(
            member=self._lesson.member, step=step, finished=finished, best_loss=self._best.loss, stale=self._best.stale, tensors=tensors
        )

    def _restore(self, state: State) -> int:
        """Take everything from `state` but the network's weights, which `Trainer` has put in place; return the step it was kept at."""
        self._best = Best(state.best_loss, state.stale, _under("best.", state.tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("adamw.", state.tensors).items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = tensor
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": moments})
        torch.set_rng_state(state.tensors["random.cpu"])
        if "random.cuda" in state.tensors:
            torch.cuda.set_rng_state(state.tensors["random.cuda"], self._network.encoder.device)
        self._tell("resume", state.step)
        return state.step


def trained_tensors(network: Network, settings: TrainingConfig, member: int | None = None) -> dict[str, Tensor]:
    """Return the tensors that training changes, of one member or of all: what is trained, and what a head follows.

    A body's own buffers (positions, rotary frequencies) are constants.
    """
    head = "heads." if member is None else f"heads.{member}."
    body = "encoders." if member is None else f"encoders.{member % len(network.encoders)}."
    prefixes = (head, body) if settings.trains_body else (head,)
    tensors = {name: value for name, value in network.named_parameters() if name.startswith(prefixes) and value.requires_grad}
    return tensors | {name: value for name, value in network.named_buffers() if name.startswith(head)}


def put_trained(network: Network, state: State) -> None:
    """Put the weights of a state into a network."""
    _put(network, {name: tensor for name, tensor in state.tensors.items() if name.startswith(("heads.", "encoders."))})


@torch.no_grad()
def _put(network: Network, tensors: dict[str, Tensor]) -> None:
    places = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in tensors.items():
        places[name].copy_(tensor)


def _under(prefix: str, tensors: Any) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextmanager
def told_of_memory() -> Iterator[None]:
    """Say what to do about a step that does not fit into memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        message = "a training step does not fit into memory; try a smaller --batch or --max-tokens, or --micro-batch"
        raise UsageError(message) from error
