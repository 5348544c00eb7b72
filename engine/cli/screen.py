"""Owns what `tmem top` shows: one frame as lines of text, from the rates of an interval, for a
terminal of some size. It reads nothing and writes nothing, so a test can look at any frame.

A frame fits into 80 columns and 24 lines; what has no room is counted in a last row. What colours
say, letters say too, for terminals that have none.
"""
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from engine.cli.looks import History
from engine.cli.words import bar, count, percent, plain, seconds, shares, short_size, size, sparkline

# What the memory of an arena is: gauge, word, style, letter and the same in ASCII.
PARTS = (
    ("bytes_persistent", "persistent", "magenta", "\u2588", "P"),
    ("bytes_evictable", "ephemeral", "cyan", "\u2593", "E"),
    ("bytes_overhead", "overhead", "yellow", "\u2592", "o"),
    ("bytes_leaving", "leaving", "red", "\u2573", "x"),
    ("bytes_stuck", "stuck", "blue", "\u2504", "-"),
    ("bytes_free", "free", "green", "\u00b7", "."),
)
# Key: what pools are sorted by, the column that shows it, and whether the largest comes first.
SORTS: dict[str, tuple[str, str, bool]] = {
    "n": ("name", "POOL", False),
    "u": ("bytes_used", "USED", True),
    "g": ("gets_per_s", "GETS/S", True),
    "h": ("hit_rate", "HITS", True),
    "p": ("puts_per_s", "PUTS/S", True),
    "e": ("evicted_per_s", "EVICT/S", True),
    "l": ("lasts_s", "LASTS", False),
}
HELP = (
    ("q", "quit"),
    ("up, down, j, k", "choose a pool"),
    ("enter", "show the chosen pool alone; esc or b goes back"),
    ("n u g h p e l", "sort by name, used memory, gets, hits, puts, evictions, lasts"),
    ("r", "sort the other way round"),
    ("w, c", "all workers, all clients"),
    ("space", "stop the picture; again: go on"),
    ("?", "this list"),
)
EXPLAINED = (
    ("FAR", "pages in the far tier of their pool"),
    ("LASTS", "how long a page stays, if so many go on being evicted"),
    ("WAITING", "the part of its time that a worker waits for locks"),
    ("FOR", "the lock that it sleeps for now"),
    ("HOLDS", "its locks; a stopped worker with one holds others up"),
    ("SHARE", "of the memory for ephemeral pages, when that is short"),
)


@dataclasses.dataclass
class State:
    """What the keys have chosen."""

    sort: str = "u"
    turned: bool = False
    chosen: str | None = None           # pool
    page: str = "main"                  # main, pool, workers, clients, help
    paused: bool = False
    notice: str = ""                    # such as that the arena is gone
    interval: float = 1.0

    def press(self, key: str, names: list[str]) -> bool:
        """Do what a key is for; False: end. `names`: pools in the order they are shown."""
        if key in ("q", "Q", "eof"):
            return False
        at = names.index(self.chosen) if self.chosen in names else -1
        if key in ("down", "j") and names:
            self.chosen = names[min(at + 1, len(names) - 1)]
        elif key in ("up", "k") and names:
            self.chosen = names[max(at - 1, 0)]
        elif key == "enter" and names:
            self.chosen, self.page = names[max(at, 0)], "pool"
        elif key in ("esc", "b", "left", "backspace"):
            self.page = "main"
        elif key in ("w", "c", "?"):
            page = {"w": "workers", "c": "clients", "?": "help"}[key]
            self.page = "main" if self.page == page else page
        elif key == "r":
            self.turned = not self.turned
        elif key == " ":
            self.paused = not self.paused
        elif key in SORTS:
            self.sort, self.turned = key, False
        return True


def ordered(found: Any, state: State) -> list[str]:
    """Names of pools, sorted as was chosen; where the figure is none, last."""
    key, _, largest = SORTS[state.sort]

    def figure(name: str) -> Any:
        return name if key == "name" else found["pools"][name][key]

    have = [name for name in sorted(found["pools"]) if figure(name) is not None]
    have.sort(key=figure, reverse=largest != state.turned)
    return have + [name for name in sorted(found["pools"]) if figure(name) is None]


class Frame:
    """The lines of one frame."""

    def __init__(self, found: Any, history: History, state: State, width: int, height: int | None, ascii_only: bool):
        self.found, self.history, self.state = found, history, state
        self.width, self.height, self.ascii_only = max(width, 40), height, ascii_only
        self.lines: list[Text] = []

    def add(self, *parts: str | tuple[str, str]) -> None:
        line = Text.assemble(*parts, no_wrap=True, overflow="crop" if self.ascii_only else "ellipsis")
        line.truncate(self.width)
        self.lines.append(line)

    def curve(self, pool: str | None, key: str, width: int) -> str:
        return sparkline(self.history.of(pool, key), width, self.ascii_only, 1.0 if key == "hit_rate" else None)

    def columns(self, heads: list[tuple[str, int]], style: str, cells: list[tuple[str, str]] | None = None) -> None:
        """A row of a table: each cell to the right of its width, or to the left if that is below
        0. None: the headings."""
        parts: list[str | tuple[str, str]] = []
        for at, (head, width) in enumerate(heads):
            text, own = (head, "") if cells is None else cells[at]
            text = self.fit(text, abs(width))
            text = text.strip().rjust(width) if width > 0 else text
            parts += [(text, f"{own} {style}".strip()), (" ", style)]
        self.add(*parts[:-1])

    def fit(self, text: str, width: int) -> str:
        """A text in so many cells, which letters of some languages take two of."""
        text = plain(text)
        if self.ascii_only:
            text = text.encode("ascii", "backslashreplace").decode()
        if cell_len(text) <= width:
            return set_cell_size(text, width)
        return set_cell_size(text, width - 1) + ("~" if self.ascii_only else "\u2026")

    # --- what every page has ----------------------------------------------------------------------

    def head(self) -> None:
        arena = self.found["arena"]
        left = f" {arena['name']}  {size(arena['capacity'])}, pages of {size(arena['page_size'])}"
        right = f"{'paused' if self.state.paused else f'every {self.state.interval:g} s'}  {time.strftime('%H:%M:%S')} "
        room = self.width - len(right)
        self.add((self.fit(left, room) + right, "reverse"))
        if self.state.notice:
            self.add((self.state.notice, "bold red"))
        total, half = self.found["total"], (self.width - 2) // 2
        for left_key, right_key in (("gets_per_s", "hit_rate"), ("puts_per_s", "evicted_per_s")):
            parts: list[str | tuple[str, str]] = []
            for key in (left_key, right_key):
                what, value, style = {
                    "gets_per_s": ("gets", f"{count(total['gets_per_s'])}/s", "green"),
                    "hit_rate": ("hits", "-" if total["hit_rate"] is None else percent(total["hit_rate"], 1), "cyan"),
                    "puts_per_s": ("puts", f"{count(total['puts_per_s'])}/s", "yellow"),
                    "evicted_per_s": ("evicted", f"{count(total['evicted_per_s'])}/s", "red"),
                }[key]
                parts += [f"{what:<8}", (f"{value:>8} ", "bold"), (self.curve(None, key, half - 17), style), "  "]
            self.add(*parts[:-1])
        self.memory()

    def memory(self) -> None:
        arena = self.found["arena"]
        places = shares([arena[gauge] for gauge, *_ in PARTS], self.width - 8)
        letters = [(letter_ascii if self.ascii_only else letter) for *_, letter, letter_ascii in PARTS]
        styles = [style for _, _, style, _, _ in PARTS]
        self.add("memory  ", *((letter * n, style) for letter, n, style in zip(letters, places, styles, strict=True)))
        legend: list[str | tuple[str, str]] = []
        for (gauge, word, style, *_), letter in zip(PARTS, letters, strict=True):
            if arena[gauge] or gauge in ("bytes_free", "bytes_evictable"):
                legend += [(letter, style), f" {word} {short_size(arena[gauge])}  "]
        self.add(*legend)

    def section(self, text: str, style: str = "bold") -> None:
        self.add("")
        self.add((text, style))

    # --- pools ------------------------------------------------------------------------------------

    def pool_columns(self) -> list[tuple[str, int]]:
        wide = self.width >= 100
        curve = 8 if not wide else min(20, (self.width - 84) // 2)
        fixed = [("USED", 6), ("", -6 if not wide else -8), ("GETS/S", 6), ("", -curve), ("HITS", 6), ("", -curve),
                 ("PUTS/S", 6), ("EVICT/S", 7), ("LASTS", 6)]
        if wide and any(one["far_pages"] for one in self.found["counters"].values()):
            fixed.insert(0, ("FAR", 6))
        if wide:
            fixed.insert(0, ("PAGES", 6))
        name = self.width - sum(abs(width) + 1 for _, width in fixed)
        return [("POOL", -max(name, 8)), *fixed]

    def pools(self, rows: int | None) -> None:
        heads, names = self.pool_columns(), ordered(self.found, self.state)
        arrow = ("^" if self.ascii_only else "\u25b2") if self.state.turned else ("v" if self.ascii_only else "\u25bc")
        by = SORTS[self.state.sort][1]
        self.add("")
        self.columns([(head + arrow if head == by else head, width) for head, width in heads], "bold underline")
        if not names:
            self.add("no pools yet")
        first = 0
        if rows is not None and self.state.chosen in names:
            first = max(0, names.index(self.state.chosen) - (rows - 2 if len(names) > rows else rows - 1))
        shown = names[first:] if rows is None else names[first:first + rows]
        if rows is not None and len(names) > first + rows:
            shown = shown[:-1]
        for name in shown:
            self.pool_row(name, heads)
        if len(shown) + first < len(names):
            self.add((f"and {len(names) - len(shown) - first} more", "italic"))

    def pool_row(self, name: str, heads: list[tuple[str, int]]) -> None:
        one = self.found["pools"][name]
        fact = self.found["facts"].get(name, {})
        kind = "magenta" if fact.get("kind") == "persistent" else "cyan"
        hits = "-" if one["hit_rate"] is None else percent(one["hit_rate"], 1)
        widths = [abs(width) for _, width in heads]
        labels = [label for label, _ in heads]
        before = labels.index("USED") - 1       # columns that not every screen has
        cells = [
            (name, "bold" if name != self.state.chosen else ""),
            *([(count(one["pages"]), "")] if "PAGES" in labels else []),
            *([(count(self.found["counters"][name]["far_pages"]), "")] if "FAR" in labels else []),
            (short_size(one["bytes_used"]), ""),
            (bar(one["bytes_used"], self.found["arena"]["capacity"], widths[2 + before], self.ascii_only), kind),
            (count(one["gets_per_s"]), ""),
            (self.curve(name, "gets_per_s", widths[4 + before]), "green"),
            (hits.replace(" ", ""), ""),
            (self.curve(name, "hit_rate", widths[6 + before]), "cyan"),
            (count(one["puts_per_s"]), "red" if one["refused_per_s"] else ""),
            (count(one["evicted_per_s"]), ""),
            (seconds(one["lasts_s"]), ""),
        ]
        self.columns(heads, "reverse" if name == self.state.chosen else "", cells)

    # --- workers and clients ----------------------------------------------------------------------

    def rows_of(self, all_rows: list[list[tuple[str, str]]], heads: list[tuple[str, int]], rows: int | None) -> None:
        self.add("")
        self.columns(heads, "bold underline")
        shown = all_rows if rows is None or len(all_rows) <= rows else all_rows[:max(0, rows - 1)]
        for cells in shown:
            self.columns(heads, "", cells)
        if len(shown) < len(all_rows):
            self.add((f"and {len(all_rows) - len(shown)} more", "italic"))

    def workers(self, rows: int | None) -> None:
        heads = [("WORKER", 6), ("PID", 8), ("STATE", -9), ("IN CALL", -7), ("WAITING", 7), ("FOR", -6),
                 ("WAITS/S", 7), ("LONGEST", 7), ("HOLDS", -max(8, self.width - 67))]

        def urgency(one: Any) -> Any:
            return (not (one["state"] == "stopped" and one["in_call"]), -one["waiting"], one["worker"])

        cells = [
            [
                (str(one["worker"]), ""), (str(one["pid"]), ""),
                (one["state"], "bold red" if one["state"] == "stopped" else ""),
                ("yes" if one["in_call"] else "", ""),
                (percent(one["waiting"], 1).replace(" ", "") if one["waits_per_s"] else "-", ""),
                (one["waits_for"] or "-", ""),
                (count(one["waits_per_s"]), ""), (seconds(one["wait_max_s"]) if one["wait_max_s"] else "-", ""),
                (", ".join(one["holds"]) or "-", ""),
            ]
            for one in sorted(self.found["workers"], key=urgency)
        ]
        self.rows_of(cells, heads, rows)

    def clients(self, rows: int | None) -> None:
        heads = [("CLIENT", -10), ("POOLS", 5), ("WEIGHT", 6), ("SHARE", 6), ("EPHEM.", 6),
                 ("", -max(8, self.width - 62)), ("PERSIST.", 8), ("CAP", 7), ("", -6)]
        cells = [
            [
                (str(one["client"]), ""), (str(one["pools"]), ""), (str(one["weight"]), ""),
                (percent(one["share"], 1).replace(" ", ""), ""), (short_size(one["bytes_ephemeral"]), ""),
                (bar(one["bytes_ephemeral"], self.found["arena"]["capacity"], max(8, self.width - 62),
                     self.ascii_only), "cyan"),
                (short_size(one["bytes_persistent"]), ""),
                (f"{count(one['cap'])} p" if one["cap"] else short_size(one["cap_bytes"]) if one["cap_bytes"] else "-",
                 ""),
                ("frozen" if one["frozen"] else "", "bold blue"),
            ]
            for one in self.found["clients"]
        ]
        self.rows_of(cells, heads, rows)

    # --- pages ------------------------------------------------------------------------------------

    def main_page(self) -> None:
        pools, workers = len(self.found["pools"]) or 1, len(self.found["workers"])
        clients = len(self.found["clients"]) if has_tenants(self.found) else 0
        rows: list[int | None] = [None, None, None]
        if self.height is not None:
            heads = 2 + 2 + (2 if clients else 0)
            rows = list(portions([pools, workers, clients], self.height - len(self.lines) - heads - 2))
        self.pools(rows[0])
        self.workers(rows[1])
        if clients:
            self.clients(rows[2])

    def pool_page(self) -> None:
        name = self.state.chosen or ""
        one = self.found["pools"].get(name)
        if one is None:
            self.section(self.fit(f"there is no pool {name!r} any more", self.width))
            return
        fact, counted = self.found["facts"].get(name, {}), self.found["counters"][name]
        self.section(self.fit(name, self.width))
        told = [fact.get("kind", "?"), "shared" if fact.get("shared") else "private", f"policy {fact.get('policy')}",
                f"pages of {size(fact.get('page_size', 0))}", f"pam {fact.get('pam')}", f"client {fact.get('client')}"]
        told += ["dedup"] if fact.get("dedup") else []
        told += [f"cap {fact['cap']} pages"] if fact.get("cap") else []
        told += [f"cap {size(fact['cap_bytes'])}"] if fact.get("cap_bytes") else []
        self.add(", ".join(told))
        self.add("")
        for what, key, value, style in (
            ("gets", "gets_per_s", f"{count(one['gets_per_s'])}/s", "green"),
            ("hits", "hit_rate", "-" if one["hit_rate"] is None else percent(one["hit_rate"], 1), "cyan"),
            ("puts", "puts_per_s", f"{count(one['puts_per_s'])}/s", "yellow"),
            ("evicted", "evicted_per_s", f"{count(one['evicted_per_s'])}/s", "red"),
        ):
            self.add(f"{what:<8}", (f"{value:>8} ", "bold"), (self.curve(name, key, self.width - 17), style))
        self.add("")
        capacity = self.found["arena"]["capacity"]
        self.add(f"{'used':<8}", (f"{short_size(one['bytes_used']):>8} ", "bold"),
                 (bar(one["bytes_used"], capacity, self.width - 17, self.ascii_only), "magenta"))
        stored, asked = counted["bytes_stored"] + counted["far_bytes"], counted["bytes_asked"]
        packed = f", {asked / stored:.2f} times what is stored" if stored and stored != asked else ""
        self.add(f"content  {size(asked)}{packed}; {percent(one['bytes_used'], capacity)} of the capacity")
        lasts = seconds(one["lasts_s"])
        self.add(f"pages    {counted['pages']:,} in {counted['objects']:,} objects; one lasts {lasts}")
        self.add("")
        for line in (("puts_ok", "puts_duplicate", "puts_refused"), ("gets_hit", "gets_miss", "flushes"),
                     ("evicted", "expired"), *([("far_pages", "far_hits", "spilled")] if counted["spilled"] else [])):
            self.add("".join(f"{key.replace('_', ' '):<14}{counted[key]:>10,}  " for key in line).rstrip())

    def help_page(self) -> None:
        self.section("Keys")
        for key, what in HELP:
            self.add((f"  {key:<15} ", "bold"), what)
        self.section("Words")
        for word, what in EXPLAINED:
            self.add((f"  {word:<15} ", "bold"), what)

    def finish(self) -> list[Text]:
        if self.height is not None:
            del self.lines[self.height - 1:]
            self.lines += [Text("")] * (self.height - 1 - len(self.lines))
            self.add(("q quit  ? help  enter pool  w workers  c clients  space pause  sort: nughpel", "dim"))
        return self.lines


def has_tenants(found: Any) -> bool:
    """Whether there is anything to say of clients: more than the one that all pools have by
    default, or one that was set up."""
    return len(found["clients"]) > 1 or any(
        one["client"] or one["weight"] != 1 or one["cap"] or one["cap_bytes"] or one["frozen"]
        for one in found["clients"]
    )


def portions(wants: list[int], room: int) -> list[int]:
    """How many rows each section gets of a room: what it wants, or its part, and two at least."""
    got = [min(want, 2) for want in wants]
    while sum(got) < room and got != wants:
        short = [at for at, want in enumerate(wants) if got[at] < want]
        least = min(short, key=lambda at: got[at] / (2 if at == 0 else 1))      # pools get twice as many
        got[least] += 1
    return got


def frame(found: Any, history: History, state: State, width: int, height: int | None, ascii_only: bool) -> list[Text]:
    """The lines of a frame; `height` None: as many as it takes."""
    made = Frame(found, history, state, width, height, ascii_only)
    made.head()
    pages: dict[str, Callable[[], None]] = {
        "main": made.main_page,
        "pool": made.pool_page,
        "workers": lambda: made.workers(None if height is None else height - len(made.lines) - 4),
        "clients": lambda: made.clients(None if height is None else height - len(made.lines) - 4),
        "help": made.help_page,
    }
    pages[state.page]()
    return made.finish()
