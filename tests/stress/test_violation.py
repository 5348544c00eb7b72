"""Every kind of violation that the harness names is one that there is: any other would be reported
as an exception of the harness."""
import ast

from stress.violation import KINDS
from tests.support import ROOT


def kinds_named(text):
    """The kinds in calls of `expect(truth, kind, ...)` and `Violation(kind, ...)`, with the
    alternatives of a conditional."""
    for call in ast.walk(ast.parse(text)):
        if isinstance(call, ast.Call):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            kind = call.args[1:2] if name == "expect" else call.args[:1] if name == "Violation" else []
            for node in (
                node for one in kind for node in ([one.body, one.orelse] if isinstance(one, ast.IfExp) else [one])
            ):
                if isinstance(node, ast.Constant):
                    yield node.value


def test_every_kind_that_is_named_is_known():
    named = {(path.name, kind) for path in (ROOT / "stress").rglob("*.py") for kind in kinds_named(path.read_text())}
    assert len(named) > 20 and [one for one in sorted(named) if one[1] not in KINDS] == []


def test_the_search_for_kinds_finds():
    assert list(kinds_named('g.expect(x, "lost" if y else "stale", "w", "z")\nraise Violation("torn", "w", "z")')) == [
        "lost",
        "stale",
        "torn",
    ]
