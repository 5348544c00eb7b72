"""Guests that read a real directory tree through a small cache of their own, and tmem behind it.

The kernel's cleancache in a process: a page is asked of the private LRU, then of tmem (`get`), then
read from the file; what the LRU evicts is put. Half of the files live in the guest's private
ephemeral pool (gets are exclusive), half in a shared ephemeral pool where guests find each other's
pages. Every page got from tmem is compared with the file.

Settings: tree, files_max, tree_bytes_max, lru_pages, invalidate. Facts: pages_read, file_reads,
file_reads_saved.
"""
from __future__ import annotations

import os
import sysconfig
from collections import OrderedDict
from pathlib import Path
from zlib import crc32

import engine
from stress import board as words
from stress.violation import Violation
from stress.worker import Guest


def prepare(eng, plan) -> None:
    eng.new_pool("clean-shared", persistent=False, shared=True)
    for guest in range(plan.workers):
        eng.new_pool(f"clean-{guest}", persistent=False, shared=False, client=guest)


def guest(g: Guest) -> None:
    reader = Reader(g)
    while g.running():
        name = reader.pick()
        if g.rng.random() < g.settings["invalidate"]:
            reader.invalidate(name)
        else:
            reader.read_file(name)
    g.facts.update(pages_read=reader.pages_read, file_reads=reader.file_reads, file_reads_saved=reader.saved)


def verdict(run) -> None:
    read = run.facts.get("pages_read", 0)
    if read:
        run.facts["file_reads_saved_percent"] = round(100 * run.facts["file_reads_saved"] / read, 1)


class Reader:
    """One guest's files, its private LRU and its two pools."""

    def __init__(self, g: Guest):
        self.g = g
        self.size = g.plan.page_size
        self.files = find_files(Path(g.settings["tree"] or sysconfig.get_path("stdlib")),
                                g.settings["files_max"], g.settings["tree_bytes_max"])
        if not self.files:
            raise ValueError(f"tree: no readable file below {g.settings['tree']!r}")
        self.own, self.shared = g.pool(f"clean-{g.index}"), g.pool("clean-shared")
        self.oids = {name: engine.oid(str(name)) for name in self.files}
        self.lru: OrderedDict = OrderedDict()
        self.pages_read = self.file_reads = self.saved = 0
        self.order = list(self.files)
        g.rng.shuffle(self.order)

    def pick(self) -> Path:
        """Few files are asked for often, most seldom."""
        return self.order[int(len(self.order) * self.g.rng.random() ** 3)]

    def pool_of(self, name: Path):
        return self.shared if crc32(str(name).encode()) & 1 else self.own

    def read_file(self, name: Path) -> None:
        try:
            fd = os.open(name, os.O_RDONLY)
        except OSError:
            return                                  # gone since the tree was listed
        try:
            for index in range(-(-os.fstat(fd).st_size // self.size)):
                if not self.g.running():
                    return
                self._read_page(fd, name, index)
        finally:
            os.close(fd)

    def _read_page(self, fd: int, name: Path, index: int) -> None:
        g, key = self.g, (name, index)
        self.pages_read += 1
        page = self.lru.pop(key, None)
        if page is None:
            pool = self.pool_of(name)
            page = g.call("get", pool.get, self.oids[name], index)
            truth = os.pread(fd, self.size, index * self.size)
            if page is None:
                g.row[words.MISSES] += 1
                self.file_reads += 1
                page = truth
            else:
                g.row[words.HITS] += 1
                g.row[words.BYTES] += len(page)
                self.saved += 1
                if page != truth:
                    raise Violation("damaged", f"pool {pool.name} file {name} page {index}",
                                    "the page differs from the file")
        if page:
            self.lru[key] = page
        while len(self.lru) > g.settings["lru_pages"]:
            self._evict()

    def _evict(self) -> None:
        (name, index), page = self.lru.popitem(last=False)
        if not self.g.call("put", self.pool_of(name).put, self.oids[name], index, page):
            self.g.row[words.REFUSED] += 1

    def invalidate(self, name: Path) -> None:
        """The file is about to change: nothing of it may be found again in the guest's own pool."""
        g, oid, pool = self.g, self.oids[name], self.pool_of(name)
        for key in [key for key in self.lru if key[0] == name]:
            del self.lru[key]
        if g.rng.random() < 0.5:
            g.flush_object(pool, oid)
            if pool is self.own:
                g.expect(pool.object_info(oid) is None, "zombie", f"pool {pool.name} file {name}",
                         "an object is there right after its flush")
        else:
            g.flush(pool, oid, 0)
        if pool is self.own:
            g.expect(g.call("get", pool.get, oid, 0) is None, "zombie", f"pool {pool.name} file {name}",
                     "page 0 is there right after its flush")


def find_files(tree: Path, files_max: int, bytes_max: int) -> list[Path]:
    """Readable, non-empty regular files below `tree` in a fixed order, until either limit is
    reached."""
    found: list[Path] = []
    total = 0
    for folder, folders, names in os.walk(tree):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "site-packages"))
        for name in sorted(names):
            path = Path(folder) / name
            if not path.is_file() or not os.access(path, os.R_OK):
                continue
            size = path.stat().st_size
            if not size:
                continue
            if len(found) >= files_max or total + size > bytes_max:
                return found
            found.append(path)
            total += size
    return found
