"""What a judge charges, in US dollars per million tokens.

Discounts for cached prompts are not known to the configuration and are not subtracted: the estimate is an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from judgeflow.types import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """USD per million prompt and completion tokens; reasoning tokens are part of the completion."""

    prompt: float = 0.0
    completion: float = 0.0

    def usd(self, usage: Usage) -> float:
        """Return what `usage` costs in USD."""
        return (usage.prompt * self.prompt + usage.completion * self.completion) / 1e6
