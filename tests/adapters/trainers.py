"""What the tests of trainers' adapters share: a scorer that prefers long responses, batches, and advantages computed another way."""

import itertools

from judgeflow import Preference, Scheduler
from judgeflow.config import RoutingConfig
from judgeflow.store import MemoryStore


class LongerIsBetter:
    """Believes in the longer response, a quarter for each character."""

    fingerprint = "longer"

    def score(self, pairs):
        return [Preference(logit=belief(pair.response_a, pair.response_b), uncertainty=1.0) for pair in pairs]


def belief(first, second):
    return (len(first) - len(second)) / 4


def scheduler(policy="never", **parts):
    return Scheduler(scorer=LongerIsBetter(), store=MemoryStore(), routing=RoutingConfig(policy=policy), **parts)


def advantages(responses, preference=belief):
    """Each response's mean preference over its siblings, by definition."""
    totals = [0.0] * len(responses)
    for i, j in itertools.permutations(range(len(responses)), 2):
        totals[i] += preference(responses[i], responses[j])
    return [total / (len(responses) - 1) for total in totals]
