"""The command line.  `--json` prints one JSON object on stdout; logs and progress go to stderr.

Exit codes: 0 done; 1 the work failed; 2 usage or configuration; 130 interrupted (what was paid for is saved).
"""

from __future__ import annotations

import sys

from judgeflow.errors import JudgeflowError, UsageError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def main() -> None:
    """Run the command line; a user's mistake ends in one message, never in a traceback."""
    from judgeflow.cli.app import app

    try:
        app(prog_name="judgeflow")
    except JudgeflowError as error:
        print(f"judgeflow: {error}", file=sys.stderr)
        raise SystemExit(MISUSED if isinstance(error, UsageError) else FAILED) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(FAILED) from None
    except OSError as error:
        print(f"judgeflow: {error.filename or 'the output'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(FAILED) from None
