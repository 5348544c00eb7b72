"""Owns leaving tests of a host's suite out by name: a plug-in of pytest.

LEFT_OUT names a file with a part of a test's id, which may end in "$" for the end of the id, and
the reason on each line. A name that no test has any more ends the run."""
import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(config, items):
    lines = Path(os.environ["LEFT_OUT"]).read_text().splitlines()
    reasons = dict(line.split("\t", 1) for line in lines)
    for name, why in reasons.items():
        found = [item for item in items if name in f"{item.nodeid}$"]
        if not found:
            raise pytest.UsageError(f"{name!r} is left out, and there is no such test")
        for item in found:
            item.add_marker(pytest.mark.skip(reason=why))
