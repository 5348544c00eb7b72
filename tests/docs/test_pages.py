"""Every block of code of every page: it is of its language, and does what the page says. How a
page is written so that it can be run, tests/docs/page.py says."""
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

from tests.docs import page as pages
from tests.support import ROOT, child_env

BESIDE = ("README.md", "stress/scenarios/README.md", "tests/models/README.md")
FILES = sorted([*ROOT.glob("docs/**/*.md"), *(ROOT / name for name in BESIDE)])
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def is_adapter(file):
    return file.parent.name == "adapters" and file.stem != "README"


def needs(page):
    """Distributions that a page needs: what it says itself, and what an adapter's extra has."""
    wanted = [*page.needs, *(EXTRAS.get(page.path.stem, ()) if is_adapter(page.path) else ())]
    return [name for name in map(distribution, wanted) if name != "tmem"]


def distribution(requirement):
    return re.match(r"[\w.-]+", requirement)[0]


def is_installed(name):
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def check(file, prefix, folder):
    """Parse every block of a page, and run those that can be run, in a process of their own."""
    page = pages.read(file)
    for block in page.blocks:
        pages.parse(block)
    for name in needs(page):
        if not is_installed(name):
            pytest.skip(f"{name} is not installed: make hosts")
    if any(block.runs() for block in page.blocks):
        done = subprocess.run(
            [sys.executable, pages.__file__, str(file), prefix], cwd=folder, env=child_env(),
            capture_output=True, text=True, check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_code_of_a_page_runs(file, arena_name, tmp_path):
    check(file, f"{arena_name}-", tmp_path)


# --- what is wrong is noticed ---------------------------------------------------------------------

FENCE = "```"
WRONG = {
    "a value that a comment promises": ("python", 'x = "a"\nx * 2      # "aaa", they say', "'aa', not 'aaa'"),
    "an arena of somebody": ("python", 'import engine\nengine.attach("mine")', "'mine' is the name of an arena"),
    "an arena in a command": ("shell", "tmem rm mine", "'mine' is the name of an arena"),
    "an option that is gone": ("shell", "tmem top shop --colour", "No such option"),
    "an option among other commands": ("shell", "true && tmem ls --colour", "No such option"),
    "a command that fails": ("shell", "false && true\nfalse", "exit status 1"),
    "what was printed": ("output", "one\n", "this was printed"),
    "a goal that is gone": ("shell", "make coffee", "there is no coffee"),
    "a file that is gone": ("shell", "EVERY_POINT=1 pytest tests/gone/test_gone.py", "there is no tests/gone"),
    "a comma too many": ("toml", "[a]\nb = [1,,2]", "this is no toml"),
    "a language": ("pyhton", "1", "a block of 'pyhton'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_page_is_noticed(kind, arena_name, tmp_path):
    language, text, said = WRONG[kind]
    file = tmp_path / "page.md"
    file.write_text(f"# A page\n\n{FENCE}{language}\n{text}\n{FENCE}\n")
    with pytest.raises((AssertionError, pages.Wrong), match=re.escape(said)):
        check(file, f"{arena_name}-", tmp_path)


def test_code_that_is_only_indented_is_noticed(tmp_path):
    (tmp_path / "page.md").write_text("# A page\n\n    rm -r x\n")
    with pytest.raises(pages.Wrong, match="does not say its language"):
        pages.read(tmp_path / "page.md")


def test_a_page_says_what_is_not_shown_and_what_is_not_run(arena_name, tmp_path):
    (tmp_path / "page.md").write_text(
        "# A page\n\n<!-- arenas: mine -->\n<!-- python\nimport engine\n\nn = 1\n-->\n\n"
        f"{FENCE}python\neng = engine.create('mine', '1MiB')\nn + 1      # 2\nprint(eng.name)\neng.close()\n{FENCE}\n\n"
        f"{FENCE}output\n...mine\n{FENCE}\n\n<!-- not run: a reason -->\n\n{FENCE}python\n1 / 0\n{FENCE}\n"
    )
    check(tmp_path / "page.md", f"{arena_name}-", tmp_path)


@pytest.mark.parametrize(
    "comment, values",
    [
        ("# {'name': 'Ada'}, in all processes", [{"name": "Ada"}]), ("# None", [None]), ("# 1, 2, 3 ...; exact", [1]),
        ("# True: there was one", [True]), ("# this one lives", []), ("# ... and so on", []), ("", []),
    ],
)
def test_a_comment_promises_what_it_begins_with(comment, values):
    assert pages.promised(comment) == values
