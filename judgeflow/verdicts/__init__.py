"""From a question to a prompt, from a reply to a reading, from two readings to a verdict.  Pure."""
