"""Verdicts, scores and labels that come from elsewhere, and preference data for elsewhere."""
