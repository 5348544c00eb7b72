"""Owns a toy guest: little memory, a disk, a swap device, and transcendent memory behind both.

Four guests run on one arena: python examples/guest.py
"""
import os
import random
import zlib
from collections import OrderedDict

import engine
from engine.frontends.cleancache import Cleancache
from engine.frontends.frontswap import Frontswap

PAGE = 4096
FRAMES = 64             # pages of memory that the guest has of each kind
FILES, PAGES = 8, 64    # on its disk
DATA = 256              # pages that its program has written


class Disk:
    """Files whose pages can be told apart, and a count of what was read and written."""

    def __init__(self):
        self.versions = {}
        self.swap = {}
        self.reads = self.writes = 0

    def read(self, file, index):
        self.reads += 1
        return b"%d %d %d" % (file, index, self.versions.get((file, index), 0)) + bytes(PAGE - 32)

    def write(self, file, index):
        self.writes += 1
        self.versions[file, index] = self.versions.get((file, index), 0) + 1


class Guest:
    """A page cache and a swap area, each with a front end behind it."""

    def __init__(self, eng, name):
        self.disk = Disk()
        self.cleancache = Cleancache(eng, name)
        self.frontswap = Frontswap(eng, name)
        self.fs = self.cleancache.init_fs(PAGE)
        self.frontswap.init_area(0, PAGE)
        self.page_cache = OrderedDict()
        self.resident = OrderedDict()

    def read_file(self, file, index):
        page = self.page_cache.pop((file, index), None)
        if page is None:
            page = self.cleancache.get_page(self.fs, file, index) or self.disk.read(file, index)
        self.page_cache[file, index] = page
        if len(self.page_cache) > FRAMES:
            (old_file, old_index), clean = self.page_cache.popitem(last=False)
            self.cleancache.put_page(self.fs, old_file, old_index, clean)
        return page

    def write_file(self, file, index):
        self.page_cache.pop((file, index), None)
        self.cleancache.invalidate_page(self.fs, file, index)
        self.disk.write(file, index)

    def write_memory(self, number, page):
        self.resident.pop(number, None)
        self.resident[number] = page
        if len(self.resident) > FRAMES:
            old, dirty = self.resident.popitem(last=False)
            if not self.frontswap.store(0, old, dirty):
                self.disk.swap[old] = dirty
                self.disk.writes += 1

    def read_memory(self, number):
        page = self.resident.pop(number, None)
        if page is None:
            page = self.frontswap.load(0, number)
        if page is None:
            self.disk.reads += 1
            page = self.disk.swap[number]
        self.write_memory(number, page)
        return page

    def power_off(self):
        self.cleancache.invalidate_fs(self.fs)
        self.frontswap.invalidate_area(0)


def run(eng, steps=10_000):
    """What a guest does: it reads and writes its files and its memory, and looks at every byte."""
    number = eng.worker_id
    dice = random.Random(number)
    guest = Guest(eng, f"guest{number}")
    memory = {}
    for _ in range(steps):
        file, index = dice.randrange(FILES), dice.randrange(PAGES)
        if dice.random() < 0.05:
            guest.write_file(file, index)
        version = guest.disk.versions.get((file, index), 0)
        assert guest.read_file(file, index).startswith(b"%d %d %d\0" % (file, index, version))
        spot = dice.randrange(DATA)
        if spot not in memory or dice.random() < 0.3:
            memory[spot] = dice.randbytes(32) + bytes(PAGE - 32)
            guest.write_memory(spot, memory[spot])
        assert zlib.crc32(guest.read_memory(spot)) == zlib.crc32(memory[spot])
    guest.power_off()
    print(f"guest {number}: {steps} steps read the disk {guest.disk.reads} times and wrote it {guest.disk.writes}")


if __name__ == "__main__":
    name = f"guests-{os.getpid()}"
    with engine.create(name, capacity="16MiB") as eng:
        try:
            with eng.spawn(4, run, eng) as crew:
                crew.join()
            print(f"exit codes {crew.exitcodes}; the arena is sound: {eng.check().ok}")
        finally:
            engine.unlink(name)
