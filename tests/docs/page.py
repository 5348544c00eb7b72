"""Owns how the code of a page is run: its blocks in their order, in a process and a folder of their
own. `python tests/docs/page.py FILE PREFIX` runs those of one page.

What is run, and how a block says it, by the word after its three backticks:

- python: runs in the namespace of its page. A value in the comment behind a statement is compared
  with what it came to (`cache.get("a")   # 17, and so on`). One with a title="app.py" is a file in
  the folder, for a shell block to run.
- shell: commands. Those in ENDLESS are only parsed, those in ELSEWHERE only looked at.
- output: what the block before it has printed. `...` stands for anything, and a number of four
  digits or more for some number, the same wherever it stands.
- yaml, toml, ini, json: parsed. text: nothing.

A comment of HTML, which no reader sees, may stand before a block:

- `<!-- python`, newline, code, `-->`, and the same with shell: a block that is not shown.
- `<!-- not run: why -->`: the next block is only parsed.
- `<!-- arenas: a, b -->`: names of arenas, besides those in ARENAS. They get the prefix, so that
  no arena is touched but those of this run.
- `<!-- needs: a, b -->`: distributions without which the page is left out.
"""
import ast
import asyncio
import configparser
import contextlib
import importlib.util
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tokenize
import tomllib
import traceback
import types
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
ARENAS = ("shop", "demo")
# Commands of tmem that take long, or go on until they are interrupted: with --help behind them they
# are only parsed.
ENDLESS = {"top", "tend", "balloon", "stress", "bench"}
ENDED = {"--once", "--count"}
# Programs that are not run: why.
ELSEWHERE = {
    "pip": "it installs", "apt-get": "it installs", "make": "it runs this suite", "pytest": "it is this suite",
    "docker": "it needs a daemon", "kubectl": "it needs a cluster", "systemctl": "it changes the machine",
    "loginctl": "it changes the machine", "mount": "it changes the machine",
}
LANGUAGES = {"python", "shell", "output", "text", "yaml", "toml", "ini", "json"}


class Wrong(Exception):
    """What is wrong with a block, for whoever wrote the page."""


@dataclass
class Block:
    language: str
    text: str
    line: int               # of its first line of code, in the page
    title: str | None = None
    parsed_only: bool = False

    def runs(self):
        if self.parsed_only or self.language not in ("python", "shell", "output"):
            return False
        return self.language != "shell" or not all(map(is_elsewhere, commands(self.text)))


@dataclass
class Page:
    path: Path
    blocks: list
    arenas: tuple
    needs: tuple


# --- reading a page -------------------------------------------------------------------------------


def read(path):
    """A page: its blocks, and what its comments say."""
    page = Page(path, [], ARENAS, ())
    parsed_only = False
    for token in MarkdownIt("commonmark").parse(path.read_text()):
        line = token.map[0] + 2 if token.map else 0
        if token.type == "html_block":
            hidden = re.fullmatch(r"<!-- (python|shell)\n(.*)-->\s*", token.content, re.S)
            said = re.fullmatch(r"<!-- (not run|arenas|needs): (.+?) -->\s*", token.content, re.S)
            if hidden:
                page.blocks.append(Block(hidden[1], hidden[2], line))
            elif said:
                words = tuple(word.strip() for word in said[2].split(","))
                parsed_only = said[1] == "not run"
                page.arenas += words if said[1] == "arenas" else ()
                page.needs += words if said[1] == "needs" else ()
        elif token.type == "code_block":
            raise Wrong(f"{path.name}:{line - 1}: code that is only indented does not say its language")
        elif token.type == "fence":
            language, _, rest = token.info.partition(" ")
            if language not in LANGUAGES:
                raise Wrong(f"{path.name}:{line - 1}: a block of {language!r}; there are {sorted(LANGUAGES)}")
            title = re.search(r'title="([\w.-]+)"', rest)
            page.blocks.append(Block(language, token.content, line, title and title[1], parsed_only))
            parsed_only = False
    return page


def with_prefix(page, prefix):
    """The page with other names in the place of its arenas'. Wrong, if it has one that is not said
    to be an arena."""
    words = "|".join(map(re.escape, page.arenas))
    for block in page.blocks:
        block.text = re.sub(rf"(?<![\w.@-])({words})(?![\w.(]|\s*=)", lambda found: prefix + found[0], block.text)
        opened = re.findall(r"""\b(?:Cache|create|attach|unlink)\(\s*["']([^"']+)["']""", block.text)
        for command in block.language == "shell" and commands(block.text) or ():
            if command[:1] == ["tmem"] and command[1] not in ("ls", "stress", "bench", "--help"):
                opened.append(next((word for word in command[2:] if word.startswith(prefix)), command[-1]))
        for name in opened:
            if not name.startswith(prefix) and block.runs():
                raise Wrong(f"{page.path.name}:{block.line}: {name!r} is the name of an arena: say so (arenas:)")
    return page


# --- parsing a block ------------------------------------------------------------------------------


def commands(text):
    """The commands of a shell block, each as a list of words; [] for a line that is more than
    that."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            return [[]]             # of several lines
        if words:
            simple = not re.search(r"[|&;<>$()`*]", re.sub(r"'[^']*'|\s#.*", "", line))
            found.append(words if simple else [])
    return found


def parse(block):
    """Wrong, if the text of a block is not of its language."""
    try:
        if block.language == "python":
            compile(block.text, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        elif block.language == "shell":
            found = commands(block.text)
            for words in filter(is_elsewhere, found):
                look_at(words)
            if not all(found):
                subprocess.run(["bash", "-n"], input=block.text, text=True, check=True, capture_output=True)
        elif block.language == "yaml":
            import yaml

            list(yaml.safe_load_all(block.text))
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "ini":
            configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
        elif block.language == "json":
            json.loads(block.text)
    except Exception as error:
        raise Wrong(f"line {block.line}: this is no {block.language}: {getattr(error, 'stderr', error)}") from error


def look_at(words):
    """Wrong, if a command that is not run names what is not there."""
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "make":
        gone = [word for word in words[1:] if not re.search(rf"^{word}:", (ROOT / "Makefile").read_text(), re.M)]
    elif words[0] == "pytest":
        gone = [word for word in words[1:] if "/" in word and not (ROOT / word).exists()]
    elif words[:2] == ["python", "-m"]:
        gone = [word for word in words[2:3] if importlib.util.find_spec(word) is None]
    else:
        gone = []
    if gone:
        raise Wrong(f"{' '.join(words)}: there is no {', '.join(gone)}")


def is_elsewhere(words):
    """Whether a command is one that is not run here."""
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    own = words[:2] == ["python", "-m"] and words[2].startswith(("tests", "stress"))
    return bool(words) and (own or words[0] in ELSEWHERE)


# --- running --------------------------------------------------------------------------------------


def promised(comment):
    """The value that a comment begins with, in a list; [] if it begins with none."""
    text = comment.lstrip("# ")
    for end in re.finditer(r"[,:;.]?(?:\s|$)", text):
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(text[:end.start()])
            return [] if value is ... else [value]
    return []


def comments(text):
    """{line: the comment on it} of some Python."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


class Run:
    """A run of one page: the namespace of its Python, and what it has printed."""

    def __init__(self, page):
        self.page = page
        self.module = sys.modules["page"] = types.ModuleType("page")    # so that what it defines can be pickled
        self.loop = asyncio.Runner()
        self.printed = io.StringIO()

    def python(self, block):
        name = str(self.page.path)
        text = "\n" * (block.line - 1) + block.text
        said = comments(text)
        for node in ast.parse(text, name).body:
            is_value = isinstance(node, ast.Expr)
            tree = ast.Expression(node.value) if is_value else ast.Module([node], [])
            code = compile(tree, name, "eval" if is_value else "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            value = eval(code, vars(self.module))
            if code.co_flags & inspect.CO_COROUTINE:
                value = self.loop.run(value)
            expected = promised(said.get(node.end_lineno, "")) if is_value else []
            if expected and not ast.unparse(node).startswith("print(") and value != expected[0]:
                raise Wrong(f"{self.page.path.name}:{node.lineno}: {value!r}, not {expected[0]!r}")

    def shell(self, block):
        found = commands(block.text)
        if all(words and (words[0] == "tmem" or is_elsewhere(words)) for words in found):
            for words in found:
                if words[0] == "tmem":
                    self.tmem(words[1:])
            return
        # Buffered: what two processes print at once stays in whole lines.
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": ""}
        text = 'tmem() { python -m engine.cli "$@"; }\n' + block.text
        done = subprocess.run(["bash", "-euc", text], env=env, capture_output=True, text=True, check=False)
        self.printed.write(done.stdout)
        if done.returncode != 0:
            raise Wrong(f"line {block.line}: exit status {done.returncode}\n{done.stdout}{done.stderr}")

    def tmem(self, words):
        from click.testing import CliRunner

        from engine.cli.commands import main

        endless = words[0] in ENDLESS and not ENDED & set(words)
        result = CliRunner().invoke(main, [*words, "--help"] if endless else words, env={"COLUMNS": "300"})
        self.printed.write(result.output)
        if result.exit_code != 0:
            raise Wrong(f"tmem {' '.join(words)}: exit status {result.exit_code}\n{result.output}")

    def output(self, block):
        wanted = [" ".join(line.split()) for line in block.text.strip().splitlines()]
        had = [" ".join(line.split()) for line in self.printed.getvalue().strip().splitlines()]
        seen = set()

        def any_number(found):
            if found[0] in seen:
                return f"(?P=n{found[0]})"
            seen.add(found[0])
            return rf"(?P<n{found[0]}>\d+)"

        pattern = re.escape("\n".join(wanted)).replace(r"\.\.\.", ".*")
        pattern = re.sub(r"\d{4,}", any_number, pattern)
        if not re.fullmatch(pattern, "\n".join(had), re.S):
            raise Wrong(f"line {block.line}: the page says\n{block.text}\nand this was printed:\n" + "\n".join(had))

    def all(self):
        for block in self.page.blocks:
            if not block.runs():
                continue
            if block.language != "output":
                self.printed = io.StringIO()
            if block.title:
                Path(block.title).write_text(block.text)
            else:
                with contextlib.redirect_stdout(self.printed):
                    getattr(self, block.language)(block)


def foreign(prefix):
    """Arenas that this process has mapped and that are not of this run."""
    mapped = re.findall(r" /dev/shm/(\S+)$", Path("/proc/self/maps").read_text(), re.M)
    return sorted({name for name in mapped if not name.removeprefix("sem.").removeprefix("alive.").startswith(prefix)})


def main(path, prefix):
    """Run the blocks of a page in this folder, and leave no arena of theirs."""
    import engine

    page = with_prefix(read(Path(path)), prefix)
    run = Run(page)
    try:
        run.all()
        return f"these are no arenas of this run: {others}" if (others := foreign(prefix)) else 0
    except Wrong as wrong:
        return f"{path}: {wrong}"
    except BaseException:
        return traceback.format_exc()
    finally:
        for name in page.arenas:
            with contextlib.suppress(engine.ArenaNotFound):
                engine.unlink(prefix + name)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    sys.exit(main(*sys.argv[1:]))
