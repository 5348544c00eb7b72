"""Owns the report of a run as one page: a result of `tmem stress` or `tmem bench`, as either wrote
it in JSON, with its tables and, where matplotlib is installed, its pictures as inline SVG.

The page needs nothing from elsewhere. Everything that a result says is escaped.
"""
from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html import escape
from typing import Any

from stress.report import duration

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --dim: #6b7585; --line: #dfe3e9; --paper: #fff; --good: #2f9e5b;
  --bad: #cc4444; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ef; --dim: #8e99a9; --line: #2c3440; --paper: #12161c; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; white-space: nowrap; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 500; }
th:first-child, td:first-child { text-align: left; }
.scroll, figure { overflow-x: auto; margin: 0 0 16px; }
figure svg { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--bad); padding-left: 12px; }
.dim { color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
"""


def kind_of(result: Any) -> str:
    """"stress" or "bench"; ValueError if it is a result of neither."""
    if isinstance(result, dict) and isinstance(result.get("scenarios"), list):
        return "stress"
    if isinstance(result, dict) and isinstance(result.get("machine"), dict) and "sets" in result:
        return "bench"
    raise ValueError("no result of `tmem stress --json` or `tmem bench --json`")


def page(result: Any) -> str:
    """The whole page. ValueError if it is no result."""
    kind = kind_of(result)
    try:
        body = "\n".join(_stress(result) if kind == "stress" else _bench(result))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"a result of `tmem {kind}` of another version: {type(error).__name__} {error}") from None
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>tmem {kind}</title>\n<style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n")


def _svg(figure: Any) -> str:
    """A matplotlib figure as an element."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return f"<figure>{file.getvalue()[file.getvalue().index('<svg'):]}</figure>"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Cells are HTML already."""
    lines = ["<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"
             for tag, cells in [("th", head), *(("td", row) for row in rows)]]
    return '<div class="scroll"><table>' + "\n".join(lines) + "</table></div>"


# --- stress ---------------------------------------------------------------------------------------


def _stress(result: Any) -> Iterator[str]:
    scenarios = result["scenarios"]
    verdict = '<span class="good">good</span>' if result["ok"] else '<span class="bad">VIOLATIONS</span>'
    yield f"<h1>tmem stress: {verdict}</h1>"
    yield (f'<p class="dim">{escape(str(result["version"]))}, seed {int(result["seed"])}, '
           f"{int(result['workers'])} workers. Every byte that was read was verified.</p>")
    head = ["scenario", "result", "s", "workers", "operations", "per second", "hits", "refused", "get p50", "p99",
            "put p50", "p99", "lock waits"]
    yield table(head, [_row(one) for one in scenarios])
    for one in scenarios:
        for violation in one["violations"]:
            where = escape(f"{one['scenario']}: {violation['kind']}: {violation['where']}")
            yield f"<h3>{where}</h3><pre>{escape(str(violation['what']))}</pre>"
    yield from _stress_pictures(scenarios)
    yield "<h2>What was asked</h2>"
    for one in scenarios:
        yield f"<p><strong>{escape(one['scenario'])}</strong>: {escape(one['question'])}{_facts(one['facts'])}</p>"


def _row(one: Any) -> list[str]:
    def within(kind: str, part: str) -> str:
        found = one["latency_ns"].get(kind)
        return escape(duration(found[part])) if found else ""

    good = '<span class="good">good</span>' if one["ok"] else '<span class="bad">VIOLATION</span>'
    return [escape(one["scenario"]), good, f"{one['work_s']:.1f}", str(int(one["workers"])), f"{one['ops_total']:,}",
            f"{one['ops_per_second']:,}", f"{100 * one['hit_rate']:.1f} %", f"{one['refused']:,}",
            within("get", "p50"), within("get", "p99"), within("put", "p50"), within("put", "p99"),
            f"{one['lock_waits']:,}"]


def _facts(facts: Any) -> str:
    told = ", ".join(escape(f"{fact.replace('_', ' ')} {f'{value:,}' if isinstance(value, int) else value}")
                     for fact, value in facts.items())
    return f'<br><span class="dim">{told}</span>' if told else ""


def _stress_pictures(scenarios: Any) -> Iterator[str]:
    try:
        from stress.bench import plots
    except ImportError:
        return
    pictures = list(plots.of_stress(scenarios))
    if pictures:
        yield "<h2>Pictures</h2>"
    for figure in pictures:
        yield _svg(figure)


# --- bench ----------------------------------------------------------------------------------------


def _bench(result: Any) -> Iterator[str]:
    from stress.bench import tables
    yield "<h1>tmem bench</h1>"
    try:
        from stress.bench import plots
        for _, figure in plots.figures(result):
            yield _svg(figure)
    except ImportError:
        pass
    yield from from_markdown(tables.markdown(result))


def _inline(text: str) -> str:
    found = re.sub(r"\*\*(.+?)\*\*|\*(.+?)\*",
                   lambda m: f"<strong>{m[1]}</strong>" if m[1] else f"<em>{m[2]}</em>", escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", found)


def from_markdown(text: str) -> Iterator[str]:
    """As much of Markdown as the benchmark's tables are made of."""
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if title := re.fullmatch(r"(#+) (.+)", lines[0]):
            yield f"<h{len(title[1])}>{_inline(title[2])}</h{len(title[1])}>"
            lines = lines[1:]
        if not lines:
            continue
        if lines[0].startswith("|"):
            rows = [[_inline(cell.strip()) for cell in line.strip().strip("|").split("|")]
                    for line in lines if line.startswith("|")]
            yield table(rows[0], rows[2:])
            lines = [line for line in lines if not line.startswith("|")]
        if lines and lines[0].startswith("- "):
            yield "<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>"
        elif lines:
            yield f"<p>{_inline(' '.join(lines))}</p>"
