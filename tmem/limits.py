"""Owns the storage of limits (Flask-Limiter, SlowAPI) in an arena: storage_uri="tmem://<arena>".

Importing this module registers the two schemes, tmem and async+tmem. A hit of a fixed window adds
to a counter where it lies. The other two strategies keep one small value a key, which is changed by
compare and set: nothing is held meanwhile, so a process that is killed leaves the value as it was
before its hit or after it, and holds up nobody. A lease would cost two calls more, and whoever
waits for one whose holder died sleeps.

Times are those of the machine's clock since its start, in suspend too: processes share it, and
setting the time of day moves no window. Only what limits is told is the time of day.
"""
import time
from array import array
from bisect import bisect_left
from urllib.parse import parse_qsl, urlsplit

from limits import aio
from limits.errors import ConfigurationError
from limits.storage import MovingWindowSupport, SlidingWindowCounterSupport, Storage

from engine import ArenaFull, TmemError
from tmem.opening import open_cache

# A moving window is a row of 64-bit words: the hits that its entries have beyond one each, and its
# entries, oldest first, each a time in microseconds with the hits beyond one in its lowest bits.
HITS_BITS = 12
HITS_MAX = 1 << HITS_BITS

FLAGS = {"true": True, "1": True, "false": False, "0": False}


def clock_us():
    """Microseconds since the machine was started."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def read_uri(uri, options):
    """The arena of a URI and the options of its cache, of the URI and of the caller."""
    parts = urlsplit(uri or "")
    if not parts.netloc or parts.path.strip("/") or parts.fragment:
        raise ConfigurationError(
            f"storage_uri: tmem://<arena>, or tmem://<arena>?capacity=64MiB&persistent=false, not {uri!r}"
        )
    options = {"name": "limits", "persistent": True, **dict(parse_qsl(parts.query)), **options}
    flag = options["persistent"]
    if isinstance(flag, str) and flag.lower() not in FLAGS:
        raise ConfigurationError(f"persistent: true or false, not {flag!r}")
    options["persistent"] = FLAGS[flag.lower()] if isinstance(flag, str) else flag
    return parts.netloc, options


class Row:
    """The entries of a moving window that still count at a moment."""

    def __init__(self, kept, now, expiry):
        self.words = array("Q", kept or bytes(8))
        self.first = bisect_left(self.words, max(0, now - int(expiry * 1e6)) << HITS_BITS, 1)
        past = sum(word % HITS_MAX for word in self.words[1 : self.first])
        self.more = self.words[0] - past
        self.hits = len(self.words) - self.first + self.more
        self.oldest = self.words[self.first] >> HITS_BITS if self.hits else now

    def with_hits(self, now, amount):
        """What to keep when so many hits come: what is past is left out."""
        words = array("Q", [self.more])
        words += self.words[self.first :]
        while amount > 0:
            hits = min(amount, HITS_MAX)
            words.append(now << HITS_BITS | hits - 1)
            words[0] += hits - 1
            amount -= hits
        return words.tobytes()


class Slide:
    """A window that slides: when it began, the hits of the one before it, and its own."""

    def __init__(self, kept, now, expiry):
        self.length = int(expiry * 1e6)
        began, self.previous, self.current = array("Q", kept) if kept else (now, 0, 0)
        passed = (now - began) // self.length
        if passed > 0:
            self.previous, self.current = (self.current if passed == 1 else 0), 0
        # One of which nothing counts any more begins with the next hit.
        self.began = began + passed * self.length if self.previous or self.current else now
        self.left = self.began + self.length - now

    def hits(self):
        """Those of before count as much as there is left of this window."""
        return self.previous * self.left // self.length + self.current

    def with_hits(self, amount):
        return array("Q", [self.began, self.previous, self.current + amount]).tobytes()


class Windows:
    """The verbs of all three strategies. What is no counter has a key of its own, so one storage
    can be used by limiters of different strategies."""

    base_exceptions = TmemError

    def __init__(self, uri=None, wrap_exceptions=False, **options):
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        arena, options = read_uri(uri, options)
        self.cache = open_cache(arena, **options)

    def change(self, key, fn):
        """Keep what fn(value) says: the new value and its seconds to live. False if it says None.

        Somebody who was faster costs another round, and of all that try at once one has done it."""
        done = False
        while not done:
            value, version = self.cache.get(key, with_version=True)
            changed = fn(value)
            if changed is None:
                return False
            done = self.cache.cas(key, changed[0], version, changed[1])
            if done is None:
                if value is not None:       # it has gone for the new one, and fits where it was
                    self.cache.add(key, value, changed[1])
                raise ArenaFull(f"arena {self.cache.arena!r}: there is no room for a window; make the arena larger")
        return True

    def incr(self, key, expiry, amount=1):
        return self.cache.incr(key, amount, ttl=expiry)

    def get(self, key):
        return self.cache.get(key, 0)

    def get_expiry(self, key):
        try:
            return time.time() + (self.cache.expires(key) or 0)
        except KeyError:
            return time.time()

    def check(self):
        try:
            self.cache.has("")
        except (TmemError, OSError):
            return False
        return True

    def reset(self):
        there = len(self.cache)
        self.cache.clear()
        return there

    def clear(self, key):
        self.cache.delete_many((key, ("moving", key)))

    def acquire_entry(self, key, limit, expiry, amount=1):
        def hit(kept):
            now = clock_us()            # after the get: entries are in the order of their times
            row = Row(kept, now, expiry)
            return (row.with_hits(now, amount), expiry) if row.hits + amount <= limit else None

        return amount <= limit and self.change(("moving", key), hit)

    def get_moving_window(self, key, limit, expiry):
        kept = self.cache.get(("moving", key))
        now = clock_us()
        row = Row(kept, now, expiry)
        return time.time() - (now - row.oldest) / 1e6, row.hits

    def acquire_sliding_window_entry(self, key, limit, expiry, amount=1):
        def hit(kept):
            slide = Slide(kept, clock_us(), expiry)
            if slide.hits() + amount > limit:
                return None
            return slide.with_hits(amount), (slide.left + slide.length) / 1e6

        return amount <= limit and self.change(("sliding", key), hit)

    def get_sliding_window(self, key, expiry):
        kept = self.cache.get(("sliding", key))
        slide = Slide(kept, clock_us(), expiry)
        left = slide.left / 1e6
        return (
            slide.previous, left if slide.previous else 0.0,
            slide.current, left + expiry if slide.current else 0.0,
        )

    def clear_sliding_window(self, key, expiry):
        self.cache.delete(("sliding", key))


class TmemStorage(Windows, Storage, MovingWindowSupport, SlidingWindowCounterSupport):
    """The storage of tmem://<arena>.

    options, here or as the query of the URI: name, of the cache in the arena ("limits");
    persistent: False lets hits that are used least make room when the arena is full, rather than
    refuse new ones; capacity, of an arena that is not there yet; and those of engine.Cache."""

    STORAGE_SCHEME = ["tmem"]


class AsyncTmemStorage(aio.storage.Storage, aio.storage.MovingWindowSupport, aio.storage.SlidingWindowCounterSupport):
    """The storage of async+tmem://<arena>, with the same options and the same windows. A call takes
    a few microseconds, and holds up the loop for no longer than handing it to a thread would."""

    STORAGE_SCHEME = ["async+tmem"]
    base_exceptions = TmemError

    def __init__(self, uri=None, wrap_exceptions=False, **options):
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self.windows = TmemStorage(uri, **options)

    async def incr(self, key, expiry, amount=1):
        return self.windows.incr(key, expiry, amount)

    async def get(self, key):
        return self.windows.get(key)

    async def get_expiry(self, key):
        return self.windows.get_expiry(key)

    async def check(self):
        return self.windows.check()

    async def reset(self):
        return self.windows.reset()

    async def clear(self, key):
        self.windows.clear(key)

    async def acquire_entry(self, key, limit, expiry, amount=1):
        return self.windows.acquire_entry(key, limit, expiry, amount)

    async def get_moving_window(self, key, limit, expiry):
        return self.windows.get_moving_window(key, limit, expiry)

    async def acquire_sliding_window_entry(self, key, limit, expiry, amount=1):
        return self.windows.acquire_sliding_window_entry(key, limit, expiry, amount)

    async def get_sliding_window(self, key, expiry):
        return self.windows.get_sliding_window(key, expiry)

    async def clear_sliding_window(self, key, expiry):
        self.windows.clear_sliding_window(key, expiry)
