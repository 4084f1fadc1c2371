"""Files and folders that observers write to: whether they can, found out without leaving anything behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from judgeflow.errors import ConfigurationError


def cannot_write(key: str, path: Path, error: OSError, remedy: str) -> ConfigurationError:
    """Return the error about a setting that names what cannot be written."""
    return ConfigurationError(f"{key}: {path} cannot be written: {error.strerror or error}; {remedy}")


def try_file(path: Path) -> None:
    """Raise `OSError` if a file cannot be made, or be appended to."""
    if path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    else:
        _try_folder(path.resolve().parent)


def try_folder(path: Path) -> None:
    """Raise `OSError` if a folder cannot be made with those above it, or cannot be written."""
    _try_folder(next(each for each in (path.absolute(), *path.absolute().parents) if each.exists()))


def _try_folder(folder: Path) -> None:
    tempfile.TemporaryFile(dir=folder).close()
