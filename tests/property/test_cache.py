"""Owns seeded runs of all verbs of a cache against a plain dictionary with versions and times."""

import math
import random

import pytest

import engine

KEYS = ["a", b"a", 1, 2.0, ("t", 1), ("t", "1"), None, "long" * 50, 2**70, frozenset({1, 2})]
INT64 = (-(2**63), 2**63 - 1)


class Model:
    """What a cache that never refuses must answer, at a time that is set. Values of get_or_compute
    may have time beyond their own."""

    def __init__(self):
        self.now = 0.0
        self.items = {}  # {key: (value, dead at, stale seconds)}

    def entry(self, key):
        """What is there, also beyond its time."""
        entry = self.items.get(key)
        if entry is not None and entry[1] <= self.now:
            del self.items[key]
            return None
        return entry

    def fresh(self, key):
        entry = self.entry(key)
        return None if entry is None or entry[1] - entry[2] <= self.now else entry

    def put(self, key, value, ttl, stale=0.0):
        self.items.pop(key, None)
        if ttl > 0:
            self.items[key] = (
                value,
                self.now + ttl + stale if ttl < math.inf else math.inf,
                stale if ttl < math.inf else 0.0,
            )
        return True


class Run:
    def __init__(self, cache, other, model, wind, rnd):
        self.caches, self.model, self.wind, self.rnd = (cache, other), model, wind, rnd
        self.versions = {}  # {key: (a version, the value that had it, whether it is the last)}

    def value(self):
        return self.rnd.choice(
            [
                self.rnd.randrange(100),
                self.rnd.randbytes(self.rnd.choice((0, 7, 8, 9, 600, 5000))),
                "text" * self.rnd.randrange(9),
                [self.rnd.random()],
                None,
                True,
                2**65,
                {"k": (1, 2)},
            ]
        )

    def ttl(self):
        return self.rnd.choice([None, None, None, 5, 50.0, 500, 0, -1, math.inf])

    def step(self):
        cache, model, rnd = self.rnd.choice(self.caches), self.model, self.rnd
        key, value, ttl = rnd.choice(KEYS), self.value(), self.ttl()
        life = math.inf if ttl is None else ttl
        there = model.fresh(key)
        verb = rnd.choice(VERBS)
        return getattr(self, verb)(cache, model, key, value, ttl, life, there)

    def get(self, cache, model, key, value, ttl, life, there):
        found = cache.get(key, "none", copy=bool(self.rnd.randrange(4)))
        assert found == (there[0] if there else "none"), key

    def look(self, cache, model, key, value, ttl, life, there):
        assert cache.has(key) == (key in cache) == (there is not None)
        listed = list(cache)
        assert len(set(listed)) == len(listed), "each comes once"
        assert set(listed) == {one for one in list(model.items) if model.fresh(one)}
        assert dict(cache.items()) == {one: model.items[one][0] for one in listed}
        if there is None:
            with pytest.raises(KeyError):
                cache.expires(key)
        else:
            left = cache.expires(key)
            assert left is None if there[1] == math.inf else abs(left - (there[1] - there[2] - model.now)) < 2

    def set(self, cache, model, key, value, ttl, life, there):
        assert cache.set(key, value, ttl) and model.put(key, value, life)

    def add(self, cache, model, key, value, ttl, life, there):
        assert cache.add(key, value, ttl) == (there is None)
        if there is None:
            model.put(key, value, life)

    def replace(self, cache, model, key, value, ttl, life, there):
        assert cache.replace(key, value, ttl) == (there is not None)
        if there is not None:
            model.put(key, value, life)

    def cas(self, cache, model, key, value, ttl, life, there):
        found, version = cache.get(key, "none", with_version=True)
        assert (version is None) == (there is None)
        if version is not None and self.rnd.randrange(3) == 0:
            if self.rnd.randrange(2):
                cache.set(key, "between")
                model.put(key, "between", math.inf)
            else:
                assert cache.delete(key)
                del model.items[key]
            assert not cache.cas(key, value, version, ttl)
        else:
            assert cache.cas(key, value, version, ttl)
            model.put(key, value, life)

    def delete(self, cache, model, key, value, ttl, life, there):
        assert cache.delete(key) == (there is not None)
        model.items.pop(key, None)

    def pop(self, cache, model, key, value, ttl, life, there):
        assert cache.pop(key, "none") == (there[0] if there else "none")
        if there:
            del model.items[key]

    def touch(self, cache, model, key, value, ttl, life, there):
        assert cache.touch(key, ttl) == (there is not None)
        if there is not None:
            if life <= 0:
                del model.items[key]
            else:
                stale = there[2]
                model.items[key] = (there[0], model.now + life + stale if life < math.inf else math.inf, stale)

    def incr(self, cache, model, key, value, ttl, life, there):
        delta, initial = self.rnd.choice([1, -3, 2**62]), self.rnd.choice([0, 10, None])
        entry = there
        if entry is not None and (type(entry[0]) is not int or not INT64[0] <= entry[0] <= INT64[1]):
            with pytest.raises(TypeError):
                cache.incr(key, delta, initial, ttl)
        elif entry is not None and not INT64[0] <= entry[0] + delta <= INT64[1]:
            with pytest.raises(OverflowError):
                cache.incr(key, delta, initial, ttl)
        elif entry is not None:
            assert cache.incr(key, delta, initial, ttl) == entry[0] + delta
            model.items[key] = (entry[0] + delta, *entry[1:])
        elif initial is None:
            with pytest.raises(KeyError):
                cache.incr(key, delta, initial, ttl)
        else:
            assert cache.incr(key, delta, initial, ttl) == initial + delta
            model.put(key, initial + delta, life)

    def compute(self, cache, model, key, value, ttl, life, there):
        stale = self.rnd.choice([0, 20.0])
        called = []
        found = cache.get_or_compute(key, lambda: called.append(1) or [value], ttl, stale)
        assert bool(called) == (there is None)
        assert found == ([value] if called else there[0])
        if called:
            model.put(key, [value], life, stale)

    def many(self, cache, model, key, value, ttl, life, there):
        chosen = self.rnd.sample(KEYS, 3)
        if self.rnd.randrange(2):
            assert cache.set_many({one: value for one in chosen}, ttl) == []
            for one in chosen:
                model.put(one, value, life)
        expected = {one: model.fresh(one)[0] for one in chosen if model.fresh(one)}
        assert cache.get_many(chosen) == expected
        if self.rnd.randrange(3) == 0:
            assert cache.delete_many(chosen) == len(expected)
            for one in chosen:
                model.items.pop(one, None)

    def clear(self, cache, model, key, value, ttl, life, there):
        if self.rnd.randrange(8) == 0:
            cache.clear()
            model.items.clear()

    def time(self, cache, model, key, value, ttl, life, there):
        seconds = self.rnd.choice([1, 7, 60])
        model.now += seconds
        self.wind(model.now)


VERBS = [name for name in vars(Run) if not name.startswith("_") and name not in ("value", "ttl", "step")]
VERBS += ["get", "set"] * 3


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("how", [{}, {"persistent": True}, {"pam": "lz4"}], ids=str)
def test_a_cache_is_a_dictionary(make_arena, seed, how):
    eng = make_arena(max_pinned="4MiB")
    other = engine.attach(eng.name)

    def wind(seconds):
        for one in (eng, other):
            one.set_clock_ahead(seconds)

    run = Run(eng.cache("model", **how), other.cache("model"), Model(), wind, random.Random(seed))
    for _ in range(600):
        run.step()
    assert eng.check().ok
    other.close()
