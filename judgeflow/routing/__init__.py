"""Who is asked about, and what that may cost.  Pure: `now` is an argument, nothing is read, nothing is awaited."""
