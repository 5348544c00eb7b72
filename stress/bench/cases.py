"""Owns the loops that are timed, and the memory they run against: an arena and a raw mapping of the
same number of pages.

Both sides walk a list of tuples prepared outside the timing, one Python call or slice a step, so
the cost of the loop is the same for both and is included in both. Nothing is subtracted. The raw
side is what a Python program does that keeps pages in plain shared memory by itself: `view[a:b] =
page` and `bytes(view[a:b])`, without finding a page by key, without locks, without bounds. Its
mapping is touched page by page before anything is timed.
"""
from __future__ import annotations

import mmap
import os
import random
from time import perf_counter_ns

import posix_ipc  # type: ignore[import-not-found]

import engine
from stress.bench.peers.own.ours import buckets_for

PAGE_BYTES = 4096
RANGE_PAGES = 16                # 64 KiB at a page size of 4 KiB


class Raw:
    """A shared-memory mapping of `pages` pages, every one faulted in."""

    def __init__(self, name: str, pages: int, page_size: int):
        self.name = name
        memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=pages * page_size, mode=0o600)
        try:
            os.posix_fallocate(memory.fd, 0, pages * page_size)
            self._map = mmap.mmap(memory.fd, pages * page_size)
        except OSError:
            memory.unlink()
            raise
        finally:
            memory.close_fd()
        self.view = memoryview(self._map)
        for at in range(0, pages * page_size, 4096):
            self.view[at] = 1

    def close(self) -> None:
        self.view.release()
        self._map.close()
        posix_ipc.unlink_shared_memory(self.name)


class Bench:
    """One working set: `pages` pages in a persistent pool, and a raw mapping of `raw_pages`."""

    def __init__(self, name: str, pages: int, raw_pages: int, seed: int, object_pages: int, buckets: int):
        self.rng = random.Random(seed)
        self.object_pages = max(RANGE_PAGES, min(object_pages, pages))
        self.objects = -(-pages // self.object_pages)
        self.pages = self.objects * self.object_pages
        self.name, self.raw_pages = name, max(RANGE_PAGES * 2, raw_pages)
        self.buckets = buckets or buckets_for(self.objects)
        # Room for the metadata, and for what a worker keeps at hand.
        self.capacity = int(self.pages * PAGE_BYTES * 1.06) + (32 << 20)
        began = perf_counter_ns()
        self.eng = engine.create(name, capacity=self.capacity, page_size=PAGE_BYTES, buckets=self.buckets)
        self.create_ns = perf_counter_ns() - began
        self.raw = Raw(f"/{name}-raw", self.raw_pages, self.eng.page_size)
        self.size = self.eng.page_size
        self.page = self.rng.randbytes(self.size)
        self.block = self.rng.randbytes(self.size * RANGE_PAGES)
        self.buffer = bytearray(self.size)
        self.pool = self.eng.new_pool("bench", persistent=True, shared=True)

    def fill(self) -> float:
        """Put every page once; nanoseconds a page."""
        put, page = self.pool.put, self.page
        began = perf_counter_ns()
        for number in range(self.objects):
            oid = self.oid(number)
            for index in range(self.object_pages):
                if not put(oid, index, page):
                    raise MemoryError(
                        f"a put was refused in an arena of {self.capacity} bytes: the page count is too large"
                    )
        return (perf_counter_ns() - began) / self.pages

    def close(self) -> None:
        self.raw.close()
        self.eng.close()
        engine.unlink(self.name)

    # -- what to walk -----------------------------------------------------------------------------
    # Every oid is made anew: the arguments of a walk lie in memory in the order of their use, as
    # the numbers of a slice do.

    def oid(self, number: int) -> tuple[int, int, int]:
        return engine.oid(f"bench {number}")

    def handles(self, count: int) -> list[tuple]:
        """Random handles that hold a page."""
        below, oid, each = self.rng.randrange, self.oid, self.object_pages
        return [(oid(below(self.objects)), below(each)) for _ in range(count)]

    def distinct(self, count: int) -> list[tuple]:
        """Random handles, none twice."""
        return [(self.oid(at // self.object_pages), at % self.object_pages)
                for at in self.rng.sample(range(self.pages), min(count, self.pages // 2))]

    def absent(self, count: int) -> list[tuple]:
        """Handles without a page: half in objects that exist, half in objects that don't."""
        below, oid = self.rng.randrange, self.oid
        return [
            (oid(below(self.objects)), self.object_pages + below(1000))
            if n & 1
            else ((below(1 << 60), 5, 5), below(64))
            for n in range(count)
        ]

    def bases(self, count: int) -> list[tuple]:
        """Random ranges of RANGE_PAGES pages that lie in one object."""
        below, oid = self.rng.randrange, self.oid
        return [(oid(below(self.objects)), below(self.object_pages - RANGE_PAGES + 1)) for _ in range(count)]

    def slices(self, count: int, pages: int = 1) -> list[tuple]:
        below, size = self.rng.randrange, self.size
        starts = [below(self.raw_pages - pages + 1) * size for _ in range(count)]
        return [(start, start + size * pages) for start in starts]


# -- the loops: each walks `steps` once and gives back the nanoseconds it took
# ------------------------


def write_slices(view: memoryview, page: bytes, steps) -> int:
    began = perf_counter_ns()
    for start, end in steps:
        view[start:end] = page
    return perf_counter_ns() - began


def raw_write(bench: Bench, steps) -> int:
    return write_slices(bench.raw.view, bench.page, steps)


def read_slices(view: memoryview, steps) -> int:
    began = perf_counter_ns()
    for start, end in steps:
        bytes(view[start:end])
    return perf_counter_ns() - began


def raw_read(bench: Bench, steps) -> int:
    return read_slices(bench.raw.view, steps)


def raw_write_range(bench: Bench, steps) -> int:
    return write_slices(bench.raw.view, bench.block, steps)


def raw_view(bench: Bench, steps) -> int:
    view = bench.raw.view
    began = perf_counter_ns()
    for start, end in steps:
        with view[start:end]:
            pass
    return perf_counter_ns() - began


def raw_read_into(bench: Bench, steps) -> int:
    view, target = bench.raw.view, memoryview(bench.buffer)
    began = perf_counter_ns()
    for start, end in steps:
        target[:] = view[start:end]
    return perf_counter_ns() - began


def _two(call, steps) -> int:
    began = perf_counter_ns()
    for oid, index in steps:
        call(oid, index)
    return perf_counter_ns() - began


def _three(call, steps, last) -> int:
    began = perf_counter_ns()
    for oid, index in steps:
        call(oid, index, last)
    return perf_counter_ns() - began


def put(bench: Bench, steps) -> int:
    return _three(bench.pool.put, steps, bench.page)


def get(bench: Bench, steps) -> int:
    return _two(bench.pool.get, steps)


def get_into(bench: Bench, steps) -> int:
    return _three(bench.pool.get_into, steps, bench.buffer)


def view(bench: Bench, steps) -> int:
    call = bench.pool.view
    began = perf_counter_ns()
    for oid, index in steps:
        with call(oid, index):
            pass
    return perf_counter_ns() - began


def flush(bench: Bench, steps) -> int:
    return _two(bench.pool.flush_page, steps)


def put_range(bench: Bench, steps) -> int:
    return _three(bench.pool.put_range, steps, bench.block)


def get_range(bench: Bench, steps) -> int:
    return _three(bench.pool.get_range, steps, RANGE_PAGES)


def each(call, steps) -> list[int]:
    """Latency of every single call, with two looks at the clock (about 50 ns) in each."""
    clock, found = perf_counter_ns, []
    for step in steps:
        began = clock()
        call(*step)
        found.append(clock() - began)
    return found
