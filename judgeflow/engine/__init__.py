"""The scheduler: asyncio, the ports and the pure layers.  It owns no I/O library."""
