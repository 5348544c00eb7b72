"""Owns what the site has beyond the pages of docs/: those that lie elsewhere in the repository,
those that are generated, and the links between all of these.

A link in a page leads to a file of the repository, so that it works there. Here it is made one that
works on the site; one to a file that the site does not have is a warning, and with --strict the end
of the build.
"""
import logging
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))

import commands  # noqa: E402
import reference  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
log = logging.getLogger("mkdocs.hooks.tmem")

# Where files from outside docs/ are on the site.
ELSEWHERE = {
    "README.md": "readme.md",
    "engine/__init__.pyi": "reference/index.md",
    "tests/models/README.md": "source/models.md",
    "stress/scenarios/README.md": "source/scenarios.md",
    **{f"stress/results/{path.name}": f"results/{path.name}" for path in (ROOT / "stress/results").iterdir()},
}
GENERATED = {**reference.pages(), "commands.md": commands.page()}
HOME = {there: here for here, there in ELSEWHERE.items()}


# --- pages ----------------------------------------------------------------------------------------


def on_files(files, config):
    for here, there in ELSEWHERE.items():
        if there not in GENERATED:
            files.append(File.generated(config, there, abs_src_path=str(ROOT / here)))
    for there, text in GENERATED.items():
        files.append(File.generated(config, there, content=text))
    return files


def adapters():
    """The files of the adapters' pages, those that are not the list of them."""
    return sorted(path for path in (ROOT / "docs/adapters").glob("*.md") if path.stem != "README")


def part(nav, title):
    """The list of pages under a title of the navigation."""
    for entry in nav:
        if isinstance(entry, dict):
            for name, pages in entry.items():
                found = pages if name == title else isinstance(pages, list) and part(pages, title)
                if found:
                    return found
    return None


def on_config(config):
    part(config.nav, "Adapters").extend(f"adapters/{path.name}" for path in adapters())
    part(config.nav, "Reference").extend(name for name in reference.pages() if name != "reference/index.md")
    return config


# --- links ----------------------------------------------------------------------------------------

def title(file):
    return re.search(r"^# (.+)$", file.read_text(), re.M)[1]


# Code, which stays as it is, or what a link or an image leads to; and an entry of a list of pages,
# which has the page's title on the site.
CODE_OR_LINK = re.compile(r"^```.*?^```|`[^`\n]+`|\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)", re.M | re.S)
ENTRY = re.compile(r"^(- |\d+\. )\[[\w./-]+\.md\]\((?P<target>[\w./-]+)\)", re.M)
MARKER = re.compile(r"^<!--.*?-->\n+", re.M | re.S)


def site_link(target, here, page):
    """Where a relative link of a page leads on the site. here: its file in the repository."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
    there = ELSEWHERE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if there is None:
        log.warning("%s: a link to %s, which the site does not have (ELSEWHERE in docs/site/hooks.py)", here, path)
        return target
    return posixpath.relpath(there, posixpath.dirname(page) or ".")


def on_page_markdown(markdown, page, config, files):
    source = page.file.src_uri
    if source in GENERATED:
        return markdown
    here = HOME.get(source, f"docs/{source}")

    def moved(match):
        target = match["target"]
        if target is None or re.match(r"\w+:", target):
            return match[0]
        return f"]({site_link(target, here, source)}{match['anchor'] or ''})"

    def titled(match):
        path = posixpath.join(posixpath.dirname(here), match["target"])
        return f"{match[1]}[{title(ROOT / path).rstrip('?')}]({match['target']})"

    text = CODE_OR_LINK.sub(moved, ENTRY.sub(titled, MARKER.sub("", markdown)))
    return text + listed() if source == "adapters/README.md" else text


def listed():
    """A line for each adapter's page: in the repository, the folder shows them by itself."""
    return "\n" + "".join(f"- [{title(path)}]({path.name})\n" for path in adapters())


# --- what is written for one renderer and not for the other ---------------------------------------


def on_page_content(html, page, config, files):
    for paragraph in re.findall(r"<p>(.*?)</p>", html, re.S):
        line = re.search(r"^ *(?:(?:[-*]|\d+\.) |```|\|).*$", paragraph, re.M)
        if line:
            log.warning("%s: %r is no list, table or code on the site: it wants an empty line before it, "
                        "and four spaces inside a list", page.file.src_uri, line[0])
    return html
