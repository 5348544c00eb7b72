"""Owns seeded runs of all verbs of values, mixed with those of pages, against a plain model.

The model has of each object its pages, the key and word of a value, and when it is dead. Two
workers act in turn, by a clock that is set; memory is short, so that a page of an ephemeral pool
may be gone, and a put may be refused.
"""
import contextlib
import random
import struct
from dataclasses import dataclass, field

import pytest

import engine
from tests.support import SMALL, mixed

PAGE = SMALL["page_size"]
OBJECTS, STEPS = 40, 2500
HOUR = 3600
LONG = 64_000           # a value that is longer has another version when it was moved
LENGTHS = (0, 1, 8, 8, 8, 60, 300, 500, 512, 700, 1500, 4000, 9000, 70_000)
KEYS = (None, None, b"", b"one", b"two", b"a key that is longer than most of them are" * 8)
WORDS = (None, None, 0, 7, 2**64 - 1)
POOLS = {
    "ephemeral": {"shared": True}, "persistent": {"persistent": True}, "capped": {"cap": 60, "shared": True},
    "twins": {"dedup": True, "shared": True}, "packed": {"pam": "lz4", "shared": True},
    "kept": {"pam": "zstd", "persistent": True},
}


@dataclass
class Thing:
    """An object of the model; one page at 0 and nothing else is a value."""
    pages: dict
    key: object = None
    word: object = None
    dead: object = None             # by the clock of the run
    seen: int = field(default=0)    # its version, when it was looked at and has not been put since

    @property
    def is_value(self):
        return list(self.pages) == [0]

    @property
    def whole(self):
        return b"".join(self.pages[at] for at in sorted(self.pages))

    @property
    def is_dense(self):
        return sorted(self.pages) == list(range(len(self.pages)))


class Model:
    """One pool as two workers see it, and what is in it."""

    def __init__(self, name, pools, run):
        self.name, self.pools, self.run = name, pools, run
        self.rnd = run.rnd
        self.things = {}
        self.evicts = not pools[0].persistent
        self.versions = set()

    @property
    def pool(self):
        return self.rnd.choice(self.pools)

    def thing(self, n):
        thing = self.things.get(n)
        if thing is not None and thing.dead is not None and thing.dead <= self.run.clock:
            del self.things[n]
            return None
        return thing

    def resync(self, n):
        """What was there may have gone, wholly or in part, and nothing else has come."""
        thing = self.thing(n)
        pool = self.pools[0]
        info = pool.object_info((n, 0, 0))
        if thing is None:
            assert info is None, (n, info)
            return None
        there = {at: pool.get((n, 0, 0), at, free=False) for at in thing.pages}
        assert all(data in (None, thing.pages[at]) for at, data in there.items())
        left = {at: data for at, data in there.items() if data is not None}
        assert len(left) == (info[0] if info else 0)
        if left:
            thing.pages = left
            return thing
        del self.things[n]
        return None

    def expected(self, n, found):
        """What is there, when an answer says whether anything is: by now it may have gone."""
        thing = self.thing(n)
        if thing is not None and not found:
            assert self.evicts, (self.name, n)
            del self.things[n]
            return None
        assert thing is not None or not found, (self.name, n)
        return thing

    def ttl(self):
        """Seconds to live, or None, and when that is over."""
        ttl = self.rnd.choice((None, None, HOUR, 3 * HOUR, 0))
        return ttl, None if ttl is None else self.run.clock + ttl - HOUR // 2

    def content(self):
        length = self.rnd.choice(LENGTHS)
        return struct.pack("<q", self.rnd.getrandbits(40)) if length == 8 else mixed(self.rnd.randrange(400), length)

    # --- verbs of values ------------------------------------------------------------------------

    def put(self, n, write=False):
        data, key, word = self.content(), self.rnd.choice(KEYS), self.rnd.choice(WORDS)
        ttl, dead = self.ttl()
        how = {}
        old = self.thing(n)
        if self.rnd.randrange(3) == 0:
            if old is not None and old.seen and self.rnd.randrange(2):
                how = {"if_version": old.seen}
            else:
                how = self.rnd.choice(({"if_absent": True}, {"if_version": self.rnd.choice((0, 5))}))
        absent = how.get("if_absent") or how.get("if_version") == 0
        holds = (not how or (absent and old is None)
                 or (old is not None and old.seen and how.get("if_version") == old.seen))
        # A key that does not show to who holds the lock is taken for the same.
        maybe = absent and key is not None and old is not None and (key != old.key or not old.is_value)
        answer = (self.write if write else self.put_whole)(n, data, {**how, "key": key, "word": word, "ttl": ttl})
        if answer == "full":
            self.resync(n)
        elif answer is engine.CONFLICT:
            assert not holds or self.evicts or maybe or len(old.whole) > LONG, (n, how, old)
            if holds and old is not None:
                self.resync(n)
        else:
            if not holds and not maybe:
                assert self.evicts and absent, (n, how, old)
            self.things.pop(n, None)
            if answer and ttl != 0:
                self.things[n] = Thing({0: data}, key, word, dead)
            elif not answer:
                assert not self.pool.has((n, 0, 0))

    def put_whole(self, n, data, how):
        if data and self.rnd.randrange(3) == 0:
            at = self.rnd.randrange(len(data))
            data = [data[:at], b"", bytearray(data[at:])]
        return self.pool.put_object((n, 0, 0), data, **how)

    def write(self, n, data, how):
        try:
            with self.pool.writing_object((n, 0, 0), len(data), **how) as page:
                if self.rnd.randrange(4) == 0:
                    self.run.one_more()
                memoryview(page)[:] = data
        except engine.Conflict:
            return engine.CONFLICT
        except (engine.ArenaFull, engine.TooMuchPinned):
            return "full"
        return True

    def get(self, n):
        oid, how = (n, 0, 0), self.rnd.randrange(4)
        thing = self.thing(n)
        try:
            if how == 0:
                found = self.pool.get_object(oid)
            elif how == 1:
                found = self.pool.get_object(oid, info=True)
            elif how == 2:
                room = bytearray(80_000)
                found = self.pool.get_object_into(oid, room)
                found = None if found is None else bytes(room[:found])
            else:
                view = self.pool.view_object(oid)
                found = None if not view.found else bytes(view.__enter__())
                self.run.views.append((view, found))
        except engine.TooMuchPinned:
            return
        except engine.TmemError:
            assert thing is not None and (self.evicts or not thing.is_dense)
            self.resync(n)
            return
        if thing is not None and not thing.is_value:
            thing = self.resync(n)      # some of its pages may have gone before, and others after
            if self.evicts or thing is None:
                return
        thing = self.expected(n, found is not None)
        if thing is None:
            return
        if how == 1:
            found, info = found
            self.compare(thing, info, len(found))
        assert found == thing.whole, (n, how)

    def compare(self, thing, info, length):
        assert info.length == length
        if thing.is_value:
            assert (info.key, info.word) == (thing.key, thing.word)
        else:
            assert info.key is None and info.word is None
        left = None if thing.dead is None else thing.dead - self.run.clock
        assert (info.expires is None) == (left is None)
        assert left is None or left < info.expires <= left + HOUR
        if not thing.is_value:
            return
        if len(thing.whole) > LONG and thing.seen != info.version:
            thing.seen = 0          # it was moved
        assert thing.seen in (0, info.version)
        if not thing.seen:
            assert info.version not in self.versions
            self.versions.add(info.version)
            thing.seen = info.version

    def incr(self, n):
        oid, key, word = (n, 0, 0), self.rnd.choice(KEYS), self.rnd.choice(WORDS)
        delta, initial = self.rnd.randrange(-9, 10), self.rnd.choice((None, self.rnd.getrandbits(40)))
        ttl, dead = self.ttl()
        thing = self.thing(n)
        theirs = thing is not None and key is not None and (not thing.is_value or key != thing.key)
        try:
            found = self.pool.incr(oid, delta, initial, ttl, key=key, word=word)
        except KeyError:
            assert initial is None and (thing is None or theirs or self.evicts)
            if not theirs:
                self.things.pop(n, None)
        except TypeError:
            assert thing is not None and not (thing.is_value and len(thing.whole) == 8)
            self.resync(n)
        except engine.ArenaFull:
            self.resync(n)
        else:
            if thing is not None and not theirs and thing.is_value and len(thing.whole) == 8:
                old = struct.unpack("<q", thing.whole)[0]
                if found == old + delta:
                    thing.pages = {0: struct.pack("<q", found)}
                    thing.seen = 0
                    return
            assert thing is None or theirs or self.evicts
            assert found == initial + delta
            if ttl == 0:
                self.resync(n)
            else:
                self.things[n] = Thing({0: struct.pack("<q", found)}, key, word, dead)

    def touch(self, n):
        ttl, dead = self.ttl()
        thing = self.expected(n, self.pool.touch((n, 0, 0), ttl))
        if thing is not None:
            thing.dead = dead
            if ttl == 0:
                del self.things[n]

    def look(self, n):
        thing = self.expected(n, self.pool.has((n, 0, 0)))
        if thing is None:
            with pytest.raises(KeyError):
                self.pool.expires((n, 0, 0))
            return
        left = self.pool.expires((n, 0, 0))
        assert (left is None) == (thing.dead is None)
        assert left is None or thing.dead - self.run.clock < left <= thing.dead - self.run.clock + HOUR

    def flush(self, n):
        thing = self.thing(n)
        if thing is not None and self.rnd.randrange(2):
            version = thing.seen or 5
            answer = self.pool.flush_object((n, 0, 0), if_version=version)
            if answer is engine.CONFLICT:
                assert not thing.seen or not thing.is_value or self.evicts or len(thing.whole) > LONG
                return
            assert not answer or thing.seen
        else:
            answer = self.pool.flush_object((n, 0, 0))
        self.expected(n, answer)
        self.things.pop(n, None)

    # --- verbs of pages -------------------------------------------------------------------------

    def put_pages(self, n):
        index, count = self.rnd.choice((0, 0, 1, 2, 5)), self.rnd.randrange(1, 5)
        data = self.rnd.randbytes(count * PAGE - self.rnd.randrange(PAGE))
        single = count == 1 and self.rnd.randrange(2)
        done = (self.pool.put if single else self.pool.put_range)((n, 0, 0), index, data)
        thing = self.thing(n) or Thing({})
        for i in range(count):
            if done:
                thing.pages[index + i] = data[i * PAGE:(i + 1) * PAGE]
            else:
                thing.pages.pop(index + i, None)
        if index == 0:
            thing.key = thing.word = None
            thing.seen = 0
        if thing.pages:
            self.things[n] = thing
        self.resync_date(n)

    def resync_date(self, n):
        """All pages of an object may have gone for the very put of some: then it is new."""
        thing = self.resync(n)
        if thing is not None and self.evicts and thing.dead is not None and self.pools[0].expires((n, 0, 0)) is None:
            thing.dead = None

    def get_page(self, n):
        thing = self.thing(n)
        index = self.rnd.choice(sorted(thing.pages)) if thing is not None else 0
        found = self.pool.get((n, 0, 0), index, free=self.rnd.randrange(4) == 0)
        assert found is None or found == thing.pages[index]
        if found is None and thing is not None:
            assert self.evicts
        self.resync_taken(n, index)

    def resync_taken(self, n, index):
        thing = self.thing(n)
        if thing is not None and self.pools[0].get((n, 0, 0), index, free=False) is None:
            thing.pages.pop(index)
            if not thing.pages:
                del self.things[n]

    def flush_page(self, n):
        thing = self.thing(n)
        index = self.rnd.choice(sorted(thing.pages)) if thing is not None else 0
        found = self.pool.flush_page((n, 0, 0), index)
        assert not found or thing is not None
        self.resync_taken(n, index)


class Run:
    """What goes on beside the pools."""

    def __init__(self, engines, rnd):
        self.engines, self.rnd, self.clock = engines, rnd, 0
        self.views, self.models, self.extra = [], [], 0

    def one_more(self):
        """Something else that is put meanwhile, and is in the way."""
        self.extra += 1
        self.engines[0].pool("extra").put_object((self.extra, 0, 0), self.rnd.randbytes(self.rnd.choice((400, 6000))))

    def pass_time(self):
        self.clock += HOUR
        for eng in self.engines:
            eng.set_clock_ahead(self.clock)

    def let_go(self):
        while len(self.views) > self.rnd.randrange(4):
            view, data = self.views.pop(0)
            if data is not None:
                assert view.__enter__() == data
            view.release()

    def elsewhere(self):
        what = self.rnd.randrange(6)
        eng = self.rnd.choice(self.engines)
        if what == 0:
            with contextlib.suppress(engine.TmemError):
                eng.resize(self.rnd.choice(("1MiB", "1536KiB", "2MiB")))
        elif what == 1:
            report = eng.check(repair=self.rnd.randrange(2) == 0)
            assert report.ok, [str(problem) for problem in report.problems[:3]]
        elif what == 2:
            self.pass_time()
        else:
            self.one_more()


VERBS = ("put", "put", "put", "write", "get", "get", "get", "incr", "incr", "touch", "look", "flush", "put_pages",
         "get_page", "flush_page")


@pytest.mark.parametrize("seed", range(3))
def test_all_verbs_of_values_answer_as_a_dictionary(make_arena, seed):
    rnd = random.Random(seed)
    eng = make_arena(**{**SMALL, "capacity": "1MiB", "max_capacity": "2MiB"}, shards=2)
    with engine.attach(eng.name) as other:
        run = Run((eng, other), rnd)
        eng.new_pool("extra")
        for name, how in POOLS.items():
            run.models.append(Model(name, (eng.new_pool(name, **how), other.pool(name)), run))
        for _ in range(STEPS):
            model, n, verb = rnd.choice(run.models), rnd.randrange(OBJECTS), rnd.choice(VERBS)
            if verb == "write":
                model.put(n, write=True)
            else:
                getattr(model, verb)(n)
            if rnd.randrange(12) == 0:
                run.elsewhere()
            run.let_go()
        for model in run.models:
            for n in range(OBJECTS):
                model.resync(n)
        while run.views:
            run.let_go()
        assert eng.check().ok and eng.stats()["total"]["evicted"] > 100
