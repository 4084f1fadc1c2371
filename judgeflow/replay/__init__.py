"""What would have happened: other policies, limits and budgets over verdicts that are paid for."""
