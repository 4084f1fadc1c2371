"""Judges over the network: the OpenAI chat-completions client, its prices and the gate of its rate limits."""
