"""Owns the state machines of values: any sequence of calls on objects as values, on leases and on a
cache, by two workers whose clock is set, answers as a dictionary would.

Hypothesis chooses the sequences, the same ones every run, and shrinks one that fails.
VALUES_EXAMPLES=2000 looks at so many.
"""
import itertools
import math
import os
import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import engine
from tests.support import SMALL, mixed

HOUR = 3600
FOREVER = math.inf
EXAMPLES = int(os.environ.get("VALUES_EXAMPLES", "40"))
INT64 = (-(2**63), 2**63 - 1)
POOLS = {"raw": {"persistent": True}, "lz4": {"pam": "lz4", "persistent": True}, "twins": {"dedup": True}}

oids = st.integers(0, 5).map(lambda n: (n, n & 1, 0))
datas = st.tuples(st.integers(0, 3), st.sampled_from((0, 1, 7, 8, 9, 500, 512, 513, 4000, 70_000))).map(
    lambda how: mixed(*how)
)
parts = st.integers(0, 3)
keys = st.sampled_from((None, b"", b"one", b"two", b"long" * 99))
words = st.sampled_from((None, 0, 1, 2**64 - 1))
ttls = st.sampled_from((None, None, HOUR, 2 * HOUR, 5 * HOUR, 0, -1.5))
deltas = st.sampled_from((0, 1, -1, 7, 2**62, -(2**63)))
workers = st.integers(0, 1)
numbers = st.integers(0, 2**32)


class Clocked(RuleBasedStateMachine):
    """An arena with two workers, and the time there."""

    names = None                        # gives the arena of each run its name
    pool = {}

    def __init__(self):
        super().__init__()
        name = next(self.names)
        self.engines = (engine.create(name, **SMALL), engine.attach(name))
        self.now = 0

    @rule(hours=st.sampled_from((1, 1, 2, 5)))
    def time_passes(self, hours):
        self.now += hours * HOUR
        for one in self.engines:
            one.set_clock_ahead(self.now)

    @rule(worker=workers)
    def tend(self, worker):
        self.engines[worker].tend()

    def dead_at(self, ttl):
        """When what lives so long is dead; 0: at once."""
        return FOREVER if ttl is None or ttl == FOREVER else self.now + ttl if ttl > 0 else 0

    def is_left(self, left, dead):
        """Whether a time that is left is what the model says."""
        return left is None if dead == FOREVER else abs(left - (dead - self.now)) < 60

    def teardown(self):
        try:
            report = self.engines[0].check(frozen=True)
            assert report.ok, [str(problem) for problem in report.problems[:3]]
        finally:
            for one in reversed(self.engines):
                one.close()
            engine.unlink(self.engines[0].name)


class Values(Clocked):
    """A pool, whose model is {oid: [data, key, word, when it is dead, version or 0]}."""

    def __init__(self):
        super().__init__()
        made = self.engines[0].new_pool("p", shared=True, **self.pool)
        self.pools = (made, self.engines[1].pool("p"))
        self.things = {}
        self.versions = set()           # all that were seen
        self.leases = {}                # name -> the worker who has it

    def thing(self, oid):
        found = self.things.get(oid)
        if found is not None and found[3] <= self.now:
            del self.things[oid]
            return None
        return found

    def version(self, pool, oid):
        """Of what is there; another than all others had."""
        thing = self.thing(oid)
        version = pool.get_object(oid, info=True)[1].version
        if not thing[4]:
            assert version not in self.versions, "two values of one version"
            self.versions.add(version)
            thing[4] = version
        assert thing[4] == version or len(thing[0]) > 60_000
        return version

    def keep(self, oid, data, key, word, ttl):
        self.things.pop(oid, None)
        if self.dead_at(ttl) > self.now:
            self.things[oid] = [data, key, word, self.dead_at(ttl), 0]

    @rule(worker=workers, oid=oids, data=datas, cuts=parts, key=keys, word=words, ttl=ttls)
    def put(self, worker, oid, data, cuts, key, word, ttl):
        pieces = _cut(data, cuts) if cuts else data
        assert self.pools[worker].put_object(oid, pieces, ttl=ttl, key=key, word=word) is True
        self.keep(oid, data, key, word, ttl)

    @rule(worker=workers, oid=oids, data=datas, key=keys, ttl=ttls)
    def put_if_absent(self, worker, oid, data, key, ttl):
        pool, there = self.pools[worker], self.thing(oid)
        answer = pool.put_object(oid, data, ttl=ttl, key=key, if_absent=True)
        # Another key's value is nothing, but where its tail cannot be seen.
        other = there is not None and key is not None and there[1] != key
        assert answer is True if there is None else answer is engine.CONFLICT or (answer is True and other)
        if other and len(self.pool) == 1:
            assert answer is True
        if answer is True:
            self.keep(oid, data, key, None, ttl)

    @rule(worker=workers, oid=oids, data=datas, word=words, ttl=ttls, stale=st.booleans())
    def put_if_version(self, worker, oid, data, word, ttl, stale):
        pool = self.pools[worker]
        if self.thing(oid) is None:
            version = max(self.versions, default=5)
        else:
            version = self.version(pool, oid)
            if stale:
                self.put(1 - worker, oid, data[:-1], 0, None, None, None)
        answer = pool.put_object(oid, data, ttl=ttl, word=word, if_version=version)
        if stale or self.thing(oid) is None:
            assert answer is engine.CONFLICT
        else:
            assert answer is True
            self.keep(oid, data, None, word, ttl)

    @rule(worker=workers, oid=oids, data=datas, ttl=ttls)
    def put_if_version_0(self, worker, oid, data, ttl):
        answer = self.pools[worker].put_object(oid, data, ttl=ttl, if_version=0)
        assert answer is (True if self.thing(oid) is None else engine.CONFLICT)
        if answer is True:
            self.keep(oid, data, None, None, ttl)

    @rule(worker=workers, oid=oids, data=datas, key=keys, ttl=ttls, fails=st.booleans())
    def write(self, worker, oid, data, key, ttl, fails):
        try:
            with self.pools[worker].writing_object(oid, len(data), key=key, ttl=ttl) as page:
                memoryview(page)[:] = data
                if fails:
                    raise LookupError
        except LookupError:
            return
        self.keep(oid, data, key, None, ttl)

    @rule(worker=workers, oid=oids)
    def get(self, worker, oid):
        pool, there = self.pools[worker], self.thing(oid)
        found = pool.get_object(oid, info=True)
        assert pool.has(oid) is (there is not None)
        if there is None:
            assert found is None and pool.get_object(oid) is None
            with pytest.raises(KeyError):
                pool.expires(oid)
            return
        data, info = found
        assert (data, info.key, info.word, info.length) == (*there[:3], len(there[0]))
        assert self.is_left(info.expires, there[3]) and self.is_left(pool.expires(oid), there[3])
        assert pool.get_object(oid) == data
        room = bytearray(len(data) + 3)
        assert pool.get_object_into(oid, room) == len(data) and room[: len(data)] == data
        with pool.view_object(oid) as seen:
            assert seen == data
        self.version(pool, oid)

    @rule(worker=workers, oid=oids, delta=deltas, initial=st.sampled_from((0, 40, None)), key=keys, ttl=ttls)
    def incr(self, worker, oid, delta, initial, key, ttl):
        pool, there = self.pools[worker], self.thing(oid)
        if there is not None and key is not None and there[1] != key:
            there = None                # another's: the later one has the place
        if there is None and initial is None:
            with pytest.raises(KeyError):
                pool.incr(oid, delta, initial, ttl, key=key)
        elif there is None:
            if INT64[0] <= initial + delta <= INT64[1]:
                assert pool.incr(oid, delta, initial, ttl, key=key) == initial + delta
                if self.dead_at(ttl) > self.now:        # else nothing is put, and another's stays
                    self.keep(oid, struct.pack("<q", initial + delta), key, None, ttl)
        elif len(there[0]) != 8:
            with pytest.raises(TypeError):
                pool.incr(oid, delta, initial, ttl, key=key)
        else:
            total = struct.unpack("<q", there[0])[0] + delta
            if not INT64[0] <= total <= INT64[1]:
                with pytest.raises(OverflowError):
                    pool.incr(oid, delta, initial, ttl, key=key)
            else:
                assert pool.incr(oid, delta, initial, ttl, key=key) == total
                there[0], there[4] = struct.pack("<q", total), 0

    @rule(worker=workers, oid=oids, ttl=ttls)
    def touch(self, worker, oid, ttl):
        there = self.thing(oid)
        assert self.pools[worker].touch(oid, ttl) is (there is not None)
        if there is not None:
            there[3] = self.dead_at(ttl)

    @rule(worker=workers, oid=oids, how=st.sampled_from(("any", "right", "wrong")))
    def flush(self, worker, oid, how):
        pool, there = self.pools[worker], self.thing(oid)
        if how == "any" or there is None:
            assert pool.flush_object(oid) is (there is not None)
        elif how == "right":
            assert pool.flush_object(oid, self.version(pool, oid)) is True
        else:
            assert pool.flush_object(oid, self.version(pool, oid) - 1) is engine.CONFLICT
            return
        self.things.pop(oid, None)

    @rule(worker=workers)
    def clear(self, worker):
        self.pools[worker].clear()
        self.things.clear()

    @rule(worker=workers, limit=st.one_of(st.none(), st.integers(0, 4)), flushes=st.booleans())
    def walk(self, worker, limit, flushes):
        pool = self.pools[worker]
        living = {oid: thing for oid in list(self.things) if (thing := self.thing(oid)) is not None}
        infos = list(pool.objects(limit=limit))
        assert len({info.oid for info in infos}) == len(infos)
        assert len(infos) == (len(living) if limit is None else min(len(living), limit))
        for info in infos:
            data, key, word, dead, _ = living[info.oid]
            assert (info.length, info.key, info.word) == (len(data), key, word) and self.is_left(info.expires, dead)
        if limit is not None and infos:
            rest = [info.oid for info in pool.objects(after=infos[-1].oid)]
            assert sorted([info.oid for info in infos] + rest) == sorted(living)
        if flushes:
            for info in pool.objects():
                assert pool.flush_object(info.oid) is True
            self.things.clear()

    @rule(worker=workers, name=st.integers(0, 2))
    def lease(self, worker, name):
        """Who has it, gives it back; who has not, takes it if nobody has."""
        lease = self.engines[worker].lease((name, 0, 0))
        holder = self.leases.get(name)
        assert lease.locked() is (holder is not None) and lease.mine() is (holder == worker)
        if holder == worker:
            lease.release()
            del self.leases[name]
        else:
            assert lease.try_acquire() is (holder is None)
            self.leases.setdefault(name, worker)

    @invariant()
    def all_is_there(self):
        assert all(self.pools[0].has(oid) for oid in list(self.things) if self.thing(oid) is not None)
        assert self.pools[1].obj_count >= len(self.things)


def _cut(data, cuts):
    """The same in pieces, of which one may be empty."""
    edges = [len(data) * n // cuts for n in range(cuts)] + [len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)] + [b""]


plain_keys = st.one_of(
    st.sampled_from(("a", b"a", 1, 1.0, True, 0, False, -0.0, 2**70, None, "", b"")), st.text(max_size=2)
)
cache_keys = st.recursive(plain_keys, lambda inner: st.one_of(
    st.tuples(inner), st.tuples(inner, inner), st.frozensets(inner, max_size=2)), max_leaves=3)
cache_values = st.one_of(
    st.integers(-3, 3), st.sampled_from((*INT64, 2**63, True, None, b"", "", ())),
    st.binary(max_size=9), st.text(max_size=3), st.integers(0, 3).map(lambda n: mixed(n, 3000)),
    st.lists(st.integers(0, 2), max_size=2),
)
cache_ttls = st.sampled_from((None, None, None, HOUR, 5 * HOUR, 0, -1, math.inf))


class Mapping(Clocked):
    """A cache, whose model is a dict, and another of when its values are dead."""

    def __init__(self):
        super().__init__()
        self.caches = [one.cache("c", **self.pool) for one in self.engines]
        self.dict, self.dead = {}, {}

    def purge(self):
        for key in [key for key, dead in self.dead.items() if dead <= self.now]:
            del self.dict[key], self.dead[key]

    def keep(self, key, value, ttl):
        self.forget(key)
        if self.dead_at(ttl) > self.now:
            self.dict[key], self.dead[key] = value, self.dead_at(ttl)

    def forget(self, key):
        self.dead.pop(key, None)
        return self.dict.pop(key, "none")

    @rule(worker=workers, key=cache_keys, value=cache_values, ttl=cache_ttls,
          verb=st.sampled_from(("set", "add", "replace", "cas", "setitem", "setdefault")))
    def store(self, worker, key, value, ttl, verb):
        self.purge()
        cache, there = self.caches[worker], key in self.dict
        if verb == "setitem":
            cache[key] = value
            return self.keep(key, value, None)
        if verb == "setdefault":
            expected = self.dict.get(key, value)
            assert same(cache.setdefault(key, value), expected)
            return None if there else self.keep(key, value, None)
        if verb == "cas":
            version = cache.get(key, with_version=True)[1]
            assert (version is not None) == there
            stores = cache.cas(key, value, version, ttl)
            assert stores is True and (not there or not cache.cas(key, "never", version))
        else:
            stores = getattr(cache, verb)(key, value, ttl)
            assert stores is {"set": True, "add": not there, "replace": there}[verb]
        return self.keep(key, value, ttl) if stores else None

    @rule(worker=workers, key=cache_keys, verb=st.sampled_from(("delete", "pop", "delitem", "touch_dead")))
    def drop(self, worker, key, verb):
        self.purge()
        cache, there = self.caches[worker], key in self.dict
        value = self.forget(key)
        if verb == "pop":
            assert same(cache.pop(key, "none"), value)
        elif verb == "delete":
            assert cache.delete(key) is there
        elif verb == "touch_dead":
            assert cache.touch(key, 0) is there
        elif there:
            del cache[key]
        else:
            with pytest.raises(KeyError):
                del cache[key]

    @rule(worker=workers, key=cache_keys, ttl=cache_ttls)
    def touch(self, worker, key, ttl):
        self.purge()
        assert self.caches[worker].touch(key, ttl) is (key in self.dict)
        if key in self.dict:
            self.keep(key, self.dict[key], ttl)

    @rule(worker=workers, key=cache_keys, delta=st.sampled_from((1, -1, 2**62)),
          initial=st.sampled_from((0, 5, None)), ttl=cache_ttls)
    def incr(self, worker, key, delta, initial, ttl):
        self.purge()
        cache, there = self.caches[worker], self.dict.get(key, initial)
        error = None
        if key not in self.dict and initial is None:
            error = KeyError
        elif type(there) is not int or not INT64[0] <= there <= INT64[1]:
            error = TypeError
        elif not INT64[0] <= there + delta <= INT64[1]:
            error = OverflowError
        if error is not None:
            with pytest.raises(error):
                cache.incr(key, delta, initial, ttl)
            return
        assert cache.incr(key, delta, initial, ttl) == there + delta
        if key in self.dict:
            self.dict[key] = there + delta
        else:
            self.keep(key, there + delta, ttl)

    @rule(worker=workers, key=cache_keys, value=cache_values, ttl=cache_ttls, fails=st.booleans())
    def compute(self, worker, key, value, ttl, fails):
        self.purge()
        called = []

        def fn():
            called.append(1)
            if fails:
                raise LookupError
            return value

        there = key in self.dict
        try:
            found = self.caches[worker].get_or_compute(key, fn, ttl)
        except LookupError:
            assert fails and not there
            return
        assert bool(called) is not there and same(found, self.dict.get(key, value))
        if called:
            self.keep(key, value, ttl)

    @rule(worker=workers, key=cache_keys, copy=st.booleans())
    def get(self, worker, key, copy):
        self.purge()
        cache = self.caches[worker]
        value = cache.get(key, "none", copy=copy)
        assert same(bytes(value) if isinstance(value, memoryview) else value, self.dict.get(key, "none"))
        assert (key in cache) is cache.has(key) is (key in self.dict)
        if key in self.dict:
            assert self.is_left(cache.expires(key), self.dead[key])

    @rule(worker=workers, wanted=st.lists(cache_keys, max_size=4), value=cache_values, ttl=cache_ttls)
    def many(self, worker, wanted, value, ttl):
        self.purge()
        cache = self.caches[worker]
        assert cache.get_many(wanted) == {key: self.dict[key] for key in wanted if key in self.dict}
        assert cache.set_many(dict.fromkeys(wanted, value), ttl) == []
        for key in wanted:
            self.keep(key, value, ttl)
        gone = {key for key in wanted[:2] if self.forget(key) != "none" or value == "none"}
        assert cache.delete_many(wanted[:2]) == len(gone)

    @rule(worker=workers, number=numbers)
    def whole(self, worker, number):
        self.purge()
        cache = self.caches[worker]
        if number % 5 == 0:
            cache.clear()
            self.dict.clear(), self.dead.clear()
        elif number % 5 == 1 and self.dict:
            key, value = cache.popitem()
            assert same(self.forget(key), value)
        elif number % 5 == 2:
            cache.update({"a": 1, None: b"x"}, b=2)
            for key, value in (("a", 1), (None, b"x"), ("b", 2)):
                self.keep(key, value, None)
        elif not self.dict:
            with pytest.raises(KeyError):
                cache.popitem()

    @invariant()
    def is_the_dict(self):
        self.purge()
        for cache in self.caches:
            assert len(cache) == len(self.dict)
            assert set(cache) == set(cache.keys()) == set(self.dict) and dict(cache.items()) == self.dict
            assert len(list(cache)) == len(self.dict) == len(list(cache.values()))


def same(value, expected):
    return value == expected and type(value) is type(expected)


@pytest.mark.parametrize(("machine", "pool"), [(Values, "raw"), (Values, "lz4"), (Values, "twins"), (Mapping, "raw"),
                                               (Mapping, "lz4")])
@pytest.mark.timeout(3600 if EXAMPLES > 100 else 60)
def test_any_sequence_answers_as_a_dictionary(arena_name, machine, pool):
    if pool == "lz4":
        pytest.importorskip("lz4.block")
    machine.names = (f"{arena_name}-{n}" for n in itertools.count())
    machine.pool = POOLS[pool]
    examples = EXAMPLES if pool == "raw" else EXAMPLES // 4
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40))
