"""Owns what tests of far tiers share: a tier in a dict that can be looked into, and pools whose
pages are mostly far.
"""
import contextlib
import os

from engine.far import tiers
from engine.far.answers import FAILED
from engine.far.disk import Disk

PAGE = 4096


def content(n, version=0):
    """A page that is like no other, and of another length than the next."""
    return (b"%d of %d, " % (n, version) + bytes(range(256)) * 17)[: PAGE - n % 7]


class MoodyDisk(Disk):
    """A disk for `engine.far.file.Disk` that does as it is told: `writes` and `reads` make another
    answer of what was written or read, a number of bytes; `spans` are those that were asked for."""

    writes = reads = None
    spans = []

    def end(self):
        done = super().end()
        return done if self.writes is None else type(self).writes(done)

    def read(self, fd, room, spans):
        self.spans.extend(spans)
        done = super().read(fd, room, spans)
        return done if self.reads is None else [type(self).reads(one) for one in done]


class DictTier:
    """A tier with the three verbs of a store of names: what it has is in `kept`, what it was asked
    in `asked`, and how long each may live, in milliseconds, in `lives`. `before(verb, names)` is
    called first, with no lock held; `deaf`: it answers nothing."""

    deletes = True
    apart = False
    trouble = None
    durable = False
    longest = 1 << 20
    batch_bytes = 1 << 21
    kept = {}
    asked = []
    given = set()
    lives = {}
    before = None
    deaf = False

    @classmethod
    def make(cls, target, nonce, mode):
        return cls(), [0, 0, 0, 0]

    @classmethod
    def open(cls, target, nonce, words, nodes):
        return cls()

    def note(self, verb, names):
        cls = type(self)
        cls.asked.append((verb, list(names)))
        if cls.before is not None:
            cls.before(verb, names)

    def prepare(self, lengths, words):
        return words

    def put_many(self, batch):
        names, values = batch.names, batch.values
        assert len(names) == len(values) == len(batch.ttls)
        self.note("put", names)
        assert not set(names) & self.given and len(set(names)) == len(names), "a name is used twice"
        self.given.update(names)
        if self.deaf:
            return [0] * len(names)
        self.kept.update(zip(names, values, strict=True))
        self.lives.update(zip(names, batch.ttls, strict=True))
        return [1] * len(names)

    def get_many(self, names, tokens, lengths):
        self.note("get", names)
        return [FAILED] * len(names) if self.deaf else [self.kept.get(name) for name in names]

    def delete_many(self, names, tokens):
        self.note("delete", names)
        for name in names:
            self.kept.pop(name, None)

    def close(self):
        pass


class FolderTier(DictTier):
    """A tier that other processes have, too, and that outlives who is killed: a folder with a file
    for each name. It promises to keep them."""

    durable = True

    def __init__(self, target):
        self.folder = target.removeprefix("folder://")

    @classmethod
    def make(cls, target, nonce, mode):
        os.makedirs(target.removeprefix("folder://"), exist_ok=True)
        return cls(target), [0, 0, 0, 0]

    @classmethod
    def open(cls, target, nonce, words, nodes):
        return cls(target)

    def place(self, name):
        return os.path.join(self.folder, name.hex())

    def put_many(self, batch):
        for name, value in zip(batch.names, batch.values, strict=True):
            with open(self.place(name), "xb") as file:      # a name is never used twice
                file.write(value)
        return [1] * len(batch.names)

    def get_many(self, names, tokens, lengths):
        found = []
        for name in names:
            try:
                with open(self.place(name), "rb") as file:
                    found.append(file.read())
            except FileNotFoundError:
                found.append(None)
        return found

    def delete_many(self, names, tokens):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.place(name))


def fresh_dict_tier(monkeypatch, durable=False):
    """The scheme "dict" for this test: its class."""
    own = {"kept": {}, "asked": [], "given": set(), "lives": {}, "before": None, "deaf": False, "durable": durable}
    kind = type("Fresh", (DictTier,), own)
    monkeypatch.setitem(tiers.SCHEMES, "dict", kind)
    return kind


def stats(pool):
    return pool.engine.stats()["pools"][pool.name]


def fill(pool, pages, start=0):
    """Put so many pages, 16 to an object, with the spiller at work: nothing goes for good."""
    for n in range(start, start + pages):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
        if n % 32 == 31:
            pool.engine.spill()
    assert stats(pool)["far_pages"] > pages // 4


def get(pool, n, **how):
    return pool.get((n // 16, 0, 0), n % 16, **how)


def far_ones(pool, kind, pages):
    """Numbers of pages that are far: those for which the tier is asked."""
    found = []
    for n in range(pages):
        kind.asked.clear()
        if get(pool, n) is not None and kind.asked:
            found.append(n)
    return found


def assert_sound(eng):
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:4]]


__all__ = [
    "FAILED", "PAGE", "FolderTier", "assert_sound", "content", "far_ones", "fill", "fresh_dict_tier", "get", "stats",
]
