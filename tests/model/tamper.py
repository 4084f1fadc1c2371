"""Checkpoints as somebody who tampers leaves them."""

import orjson

from judgeflow.model import checkpoint


def reseal(folder) -> None:
    """Write the hashes and the fingerprint anew."""
    summary = orjson.loads((folder / checkpoint.SUMMARY).read_bytes())
    summary["files"] = checkpoint._hashes(folder)
    summary["fingerprint"] = checkpoint._fingerprint(summary)
    (folder / checkpoint.SUMMARY).write_bytes(orjson.dumps(summary))
