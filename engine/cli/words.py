"""Owns how figures are written for people: bytes, rates, times, and small pictures of text, which
are of ASCII where the terminal has nothing else.
"""
import math
from collections.abc import Iterable, Sequence

BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
BLOCKS_ASCII = "_.-=+*%#"
EIGHTHS = " \u258f\u258e\u258d\u258c\u258b\u258a\u2589\u2588"


def can_write(encoding: str | None, text: str = BLOCKS + EIGHTHS) -> bool:
    """Whether a stream of this encoding has these letters."""
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def plain(text: str) -> str:
    """A text in one line that does nothing to a terminal: names of pools are any text, and may be
    somebody else's."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode()
                   for one in text)


def size(n: float) -> str:
    """Bytes, in the unit that reads best."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"


def short_size(n: float) -> str:
    """Bytes in five places: 1023, 9.9K, 512M."""
    return _short(n, 1024, ("", "K", "M", "G", "T"))


def count(n: float) -> str:
    """A number in five places: 999, 12.3k, 456k, 7.8M."""
    return _short(n, 1000, ("", "k", "M", "G", "T"))


def _short(n: float, base: int, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if round(n, 1 if unit and n < 10 else 0) < base:
            return f"{n:.1f}{unit}" if unit and n < 9.95 else f"{n:.0f}{unit}"
        n /= base
    return f"{n:.1f}{units[-1]}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def seconds(s: float | None) -> str:
    """A time in five places: 12ms, 3.4s, 2m05, 3h20, 5d."""
    if s is None or math.isinf(s) or math.isnan(s):
        return "-"
    if s == 0:
        return "0s"
    for limit, unit, factor in ((1e-3, "us", 1e6), (1, "ms", 1e3)):
        if s < limit:
            return f"{s * factor:.0f}{unit}"
    if s < 60:
        return f"{s:.1f}s" if s < 9.95 else f"{s:.0f}s"
    if s < 3600:
        return f"{s // 60:.0f}m{s % 60:02.0f}"
    return f"{s // 3600:.0f}h{s % 3600 // 60:02.0f}" if s < 172800 else f"{s / 86400:.0f}d"


def sparkline(values: Iterable[float | None], width: int, ascii_only: bool, top: float | None = None) -> str:
    """The last values as a curve of so many places, the newest on the right; a value that is None
    is a gap. `top`: what is as high as can be; None: the highest of them."""
    shown = list(values)[-width:]
    high = top if top is not None else max((value for value in shown if value is not None), default=0)
    steps = BLOCKS_ASCII if ascii_only else BLOCKS
    last = len(steps) - 1

    def step(value: float) -> str:
        return steps[min(last, int(value / high * last + 0.5))] if high > 0 else steps[0]

    return "".join(" " if value is None else step(value) for value in shown).rjust(width)


def bar(part: float, whole: float, width: int, ascii_only: bool) -> str:
    """A bar that is as full as `part` of `whole`; what is not nothing can be seen."""
    eighths = min(8 * width, round(8 * width * part / whole)) if whole > 0 and part > 0 else 0
    eighths = max(eighths, 1) if part > 0 else 0
    if ascii_only:
        return ("#" * -(-eighths // 8)).ljust(width)
    full, rest = divmod(eighths, 8)
    return (EIGHTHS[8] * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def shares(parts: Sequence[float], width: int) -> list[int]:
    """How many of `width` places each part gets, so that all are used: by the largest remainders,
    and one at least for what is not nothing."""
    whole = sum(parts)
    if whole <= 0:
        return [0] * len(parts)
    exact = [part / whole * width for part in parts]
    places = [max(int(one), 1 if one > 0 else 0) for one in exact]
    order = sorted(range(len(parts)), key=lambda at: exact[at] - places[at], reverse=True)
    while sum(places) < width:
        places[order[0]] += 1
        order.append(order.pop(0))
    while sum(places) > width:
        widest = max(range(len(parts)), key=places.__getitem__)
        places[widest] -= 1
    return places
