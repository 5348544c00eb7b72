"""Owns the rule that documents, and the heads of modules, name only what is there: private
functions, paths of files, and what a link or an image leads to."""
import ast
import functools
import re
from pathlib import Path

import pytest

import engine
from engine.eviction.policies import POLICIES
from tests.support import ROOT

DOCS = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "stress/scenarios/README.md"])
PARTS = [path.read_text() for folder in ("engine", "shm", "stress", "tmem") for kind in ("*.py", "*.pxd", "*.pyi")
         for path in (ROOT / folder).rglob(kind)]
SOURCE = "\n".join(PARTS)
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))


PROSE_MAX = 100
LINE_MAX = 120


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


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_no_line_is_wider_than_code(path):
    assert [line for line in path.read_text().splitlines() if len(line) > LINE_MAX] == []


def test_a_line_that_is_too_wide_is_noticed():
    long = "word " * 30
    assert wide(f"short\n{long}\n| {long}\n```\n{long}\n```\n{long}") == [2, 7]


# --- policies -------------------------------------------------------------------------------------


def rows(text):
    """{policy: (number, hits)} as a document has them in its table."""
    found = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| .+ \|$", text, re.MULTILINE)
    return {name: (int(number), int(hits)) for name, number, hits in found}


def test_the_documents_have_a_row_of_every_policy():
    assert rows((ROOT / "docs/architecture.md").read_text()) == POLICIES


def named(text):
    """The policies that a line of some text names, each in double quotes."""
    line = next(line for line in re.split(r"\n *\n|\.\s|\|\n", text) if "which page" in line)
    return set(re.findall(r'"(\w+)"', line))


def test_what_callers_read_names_every_policy():
    assert named((ROOT / "README.md").read_text()) == named(engine.Engine.new_pool.__doc__) == set(POLICIES)


# --- names ----------------------------------------------------------------------------------------

# Names of others, which our source need not have.
FOREIGN = {"sem_wait", "PyLong_AsUnsignedLongLong", "Kind"}


@functools.cache
def words_of(text):
    return frozenset(re.findall(r"\w+", text))


@functools.cache
def kinds_of(text):
    """The classes and structs of a file."""
    return frozenset(re.findall(r"\b(?:class|struct) (\w+)", text))


def is_member(kind, name):
    """Whether some file that has the class or struct `kind` has the word `name`, too."""
    return any(kind in kinds_of(part) and name in words_of(part) for part in PARTS)


def missing(text):
    """What is in backticks and not in the source: `a_name`, `folder/file.py`, `Kind.member`,
    `engine.public`, and a `function` that is said to be in a `file`."""
    found = [
        name
        for name in re.findall(r"`(\w*[a-zA-Z]_\w+|_[a-z]\w+)(?:\([^`]*\))?`", text)
        if name not in FOREIGN and name not in words_of(SOURCE) and name not in words_of(TESTS)
    ]
    found += [
        path
        for path in re.findall(r"`((?:engine|shm|stress|tmem|tests|docs)/[\w./-]+\.\w+)`", text)
        if not (ROOT / path).exists()
    ]
    found += [
        f"{kind}.{name}"
        for kind, name in re.findall(r"`([A-Z]\w+)\.(\w+)(?:\([^`]*\))?`", text)
        if kind not in FOREIGN and not is_member(kind, name)
    ]
    found += [
        f"engine.{name}"
        for name in re.findall(r"`engine\.(\w+(?:\.\w+)*)(?:\([^`]*\))?`", text)
        if name not in engine.__all__
    ]
    for listed, path in re.findall(
        r"((?:`[^`]+`(?:,|,? and|,? or)?\s+)+)(?:in\s+|\()`((?:\w+/)+\w+\.(?:py|pxd))`", text
    ):
        code = (ROOT / path).read_text() if (ROOT / path).exists() else ""
        for name in re.findall(r"`(?:\w+\.)?(\w+)[^`]*`", listed):
            if name not in words_of(code):
                found.append(f"{name} in {path}")
    return found


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_what_a_document_names_exists(path):
    found = missing(path.read_text())
    if path.parent.name == "adapters":      # they speak of what other libraries have
        found = [name for name in found if "." in name]
    assert not found


def test_a_name_that_is_gone_is_noticed():
    assert missing("`_no_such_function` in `engine/gone.py`, `_link` in `engine/verbs/put.py`") == [
        "_no_such_function",
        "engine/gone.py",
        "_no_such_function in engine/gone.py",
    ]
    assert missing("`Pool.put`, `Slot.own`, `Pool.grasp`, `engine.attach`, `engine.tree.unlink`") == [
        "Pool.grasp",
        "engine.tree.unlink",
    ]
    assert missing("`salvage` (`engine/api/pool.py`)") == ["salvage in engine/api/pool.py"]


# --- links ----------------------------------------------------------------------------------------


def anchors(text):
    """What the headings of a page are called in links, as the usual renderers have it."""
    fenced = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", fenced, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken(path, text):
    """Links and images of a page that lead nowhere; addresses of other sites aside."""
    found = []
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"\s]+)"', text)
    for target in targets:
        if not re.match(r"\w+:", target):
            name, _, anchor = target.partition("#")
            file = path.parent / name if name else path
            if not file.exists() or (anchor and anchor not in anchors(text if file == path else file.read_text())):
                found.append(target)
    return found


BESIDE = [ROOT / name for name in ("tests/models/README.md", "stress/scenarios/README.md", "stress/results/result.md")]


@pytest.mark.parametrize("path", [*DOCS, *BESIDE], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_images_lead_somewhere(path):
    assert not broken(path, path.read_text())


def test_a_link_that_leads_nowhere_is_noticed():
    text = "# A title: 4,000 of `it`\n[a](#a-title-4000-of-it) [b](#gone) ![c](gone.png) [d](https://example.org/x#y)"
    assert broken(ROOT / "README.md", text + '<img src="also/gone.svg">') == ["#gone", "gone.png", "also/gone.svg"]
    assert broken(ROOT / "README.md", "[a](docs/overview.md#glossary) [b](docs/overview.md#gone)") == [
        "docs/overview.md#gone"
    ]


# --- heads of modules -----------------------------------------------------------------------------

MODULES = sorted(path for folder in ("engine", "shm") for kind in ("py", "pxd") for path in (ROOT / folder).rglob(
    f"*.{kind}"))


def head(path):
    """The docstring a module opens with, or the comment that a .pxd does."""
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(path.read_text())) or ""
    return re.match(r"(?:#.*\n|\n)*", path.read_text())[0]


def stale(text):
    """What a head says that nothing holds: who calls and who is called, and files that are gone. A
    test knows the floors, and the imports say the rest."""
    files = re.findall(r"(?<![\w/])([\w/-]+\.(?:py|pxd|md))\b", text)
    known = [str(path.relative_to(ROOT)) for path in [*MODULES, *DOCS]]
    return re.findall(r"Called by|May call", text) + [
        file for file in files if not any(f"/{name}".endswith(f"/{file}") for name in known)
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_head_says_only_what_is_held(path):
    assert not stale(head(path)) and not missing(head(path))


def test_a_head_that_is_stale_is_noticed():
    assert stale("Owns x. Called by gone.py and put.py; see docs/locking.md.") == ["Called by", "gone.py"]
