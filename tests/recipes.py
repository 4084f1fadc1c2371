"""The blocks of docs/judges.md by their headings: what the page shows is what the tests run."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "judges.md").read_text(encoding="utf-8")


def sections():
    """{heading: its text} of the page."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(heading, language):
    """The blocks of a language below a heading, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", sections()[heading], re.MULTILINE | re.DOTALL)
