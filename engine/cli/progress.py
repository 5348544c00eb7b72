"""Owns what a terminal is told while a check of a large arena goes on: how long it has taken, and
about how long it will.

The timer's handler runs between two parts of a check that stops nobody. In a stopped world no
handler runs; there it is one line, beforehand.
"""
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator

NS_A_PAGE = 1000            # of a check, measured; the order of magnitude on any machine
QUIET_S = 2.0               # what takes no longer needs no progress
TICK_S = 0.5


@contextlib.contextmanager
def of_check(count: Callable[[], int]) -> Iterator[None]:
    """Tell how far the check in here is, if standard error is a terminal and there is much to
    check. `count`: how many pages there are; asked only where somebody wants to know."""
    pages = count() if sys.stderr.isatty() else 0
    expected = pages * NS_A_PAGE / 1e9
    if expected < QUIET_S:
        yield
        return
    began = time.monotonic()

    def tell(_number: int, _frame: object) -> None:
        took = time.monotonic() - began
        left = f"about {expected - took:.0f} s left" if took < expected else "almost done"
        sys.stderr.write(f"\rchecking {pages:,} pages: {took:.0f} s, {left}\x1b[K")
        sys.stderr.flush()

    before = signal.signal(signal.SIGALRM, tell)
    tell(0, None)
    timer = signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
