"""A judge that costs its clients nothing but the way: it reads no question and gives every one the same reply, at once.

`python -m benchmarks.quick_judge` prints the port it listens on and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

_REPLY_CHARACTERS = 1000
_LENGTH = b"content-length:"


def _response() -> bytes:
    thoughts = "The first response answers what was asked, the second one only in part. " * (_REPLY_CHARACTERS // 72)
    body = json.dumps(
        {
            "id": "chatcmpl-quick",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "quick-judge",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"{thoughts}<verdict>A</verdict>"}}
            ],
            "usage": {"prompt_tokens": 500, "completion_tokens": 250, "total_tokens": 750},
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class _Connection(asyncio.Protocol):
    """Answers every complete request on one connection."""

    RESPONSE = _response()

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # a TCP server's always is
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            start = head.find(_LENGTH)
            length = int(head[start + len(_LENGTH) :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self._received) < end + 4 + length:
                return
            self._received = self._received[end + 4 + length :]
            assert self._transport is not None  # connection_made came first
            self._transport.write(self.RESPONSE)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def quick_judge() -> Iterator[str]:
    """Run one in a process of its own; yields its base URL."""
    command = [sys.executable, "-m", "benchmarks.quick_judge"]
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdin=PIPE, stdout=PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # for the type checker
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve())
