"""Owns the rule that documents name only what is there: private functions, and paths of files."""
import re

import pytest

from tests.support import ROOT

DOCS = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])
SOURCE = "\n".join(path.read_text() for folder in ("engine", "shm", "stress") for kind in ("*.py", "*.pxd")
                   for path in (ROOT / folder).rglob(kind))


PROSE_MAX = 100


def wide(text):
    """Numbers of the lines of running text that are too long; tables, code and figures aside."""
    fenced = False
    found = []
    for n, line in enumerate(text.splitlines(), 1):
        fenced ^= line.startswith("```")
        if len(line) > PROSE_MAX and not fenced and not line.startswith(("|", "    ", "!", "<", "```")):
            found.append(n)
    return found


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_running_text_is_narrow_enough_to_be_read(path):
    assert not wide(path.read_text())


def test_a_line_that_is_too_wide_is_noticed():
    long = "word " * 30
    assert wide(f"short\n{long}\n| {long}\n```\n{long}\n```\n{long}") == [2, 7]


def missing(text):
    """Names in backticks that the source does not have: `_function` and `folder/file.py`."""
    names = re.findall(r"`(_[a-z]\w+)`", text)
    paths = re.findall(r"`((?:engine|shm|stress|tests|docs)/[\w./-]+\.\w+)`", text)
    return [name for name in names if not re.search(rf"\b{name}\b", SOURCE)] + [
        p for p in paths if not (ROOT / p).exists()
    ]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_what_a_document_names_exists(path):
    assert not missing(path.read_text())


def test_a_name_that_is_gone_is_noticed():
    assert missing("`_no_such_function` in `engine/gone.py`, `_link` in `engine/verbs/core.py`") == [
        "_no_such_function",
        "engine/gone.py",
    ]
