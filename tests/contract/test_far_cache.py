"""Owns what a cache does over a far tier: a value that cannot be had, for whatever reason, is a
miss, and whoever misses it may set, drop or compute it anew."""
import pickle

import pytest

import engine
from tests.contract.fars import PAGE, assert_sound, fresh_dict_tier

KEYS = 1100


@pytest.fixture
def kind(monkeypatch):
    return fresh_dict_tier(monkeypatch, durable=True)


def value(n, version=0):
    return b"%d of %d, " % (n, version) + bytes(range(256)) * 12


@pytest.fixture(params=[False, True], ids=["ephemeral", "persistent"])
def cache(request, make_arena, kind):
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    found = eng.cache("c", far="dict:", far_max=5000, persistent=request.param, far_persistent=request.param)
    for n in range(KEYS):
        assert found.set(n, value(n), ttl=1000)
        if n % 32 == 31:
            eng.spill()
    return found


def far_keys(cache, kind):
    found = []
    for n in range(KEYS):
        kind.asked.clear()
        if cache.get(n) is not None and kind.asked:
            found.append(n)
    return found


def spoil(kind, what):
    if what == "deaf":
        kind.deaf = True
    elif what == "gone":
        kind.kept.clear()
    else:
        kind.kept.update({name: b"x" * len(data) for name, data in kind.kept.items()})


answers = pytest.mark.parametrize("what", ["deaf", "gone", "bad"])


def test_values_leave_and_come_back(cache, kind):
    assert len(far_keys(cache, kind)) > 100
    assert all(cache.get(n) == value(n) for n in range(KEYS))
    n = far_keys(cache, kind)[0]
    assert bytes(cache.get(n, copy=False)) == value(n)
    again = pickle.loads(pickle.dumps(cache))
    assert all(again.get(n) == value(n) for n in range(0, KEYS, 50))
    again.close()


@answers
def test_what_cannot_be_had_is_a_miss(cache, kind, what):
    far = far_keys(cache, kind)
    spoil(kind, what)
    misses = cache.stats()["misses"]
    n = far.pop()
    assert cache.get(n) is None and cache.get(n, "none") == "none" and cache.get(n, copy=False) is None
    assert cache.stats()["misses"] >= misses + 3
    assert cache.get(far.pop(), with_version=True) == (None, None)
    assert not cache.has(far.pop()) and far.pop() not in cache
    assert cache.pop(far.pop(), None) is None and not cache.touch(far.pop(), 5) and not cache.replace(far.pop(), 1)
    with pytest.raises(KeyError):
        cache[far.pop()]
    with pytest.raises(KeyError):
        cache.expires(far.pop())
    some = far[:20]
    assert cache.get_many([*some, 10**6]) == {}
    assert set(cache.keys()) <= set(range(KEYS))


@answers
def test_what_is_set_or_dropped_meanwhile_does_not_come_back(cache, kind, what):
    far = far_keys(cache, kind)
    kept = dict(kind.kept)
    spoil(kind, what)
    one, two, three, four, five, six = far[-6:]
    cache.delete_many(far[:60])                     # room
    assert cache.add(one, "anew") and cache.get(one) == "anew"
    assert cache.set(two, "anew") and cache.get(two) == "anew"
    cache.delete(three)
    assert cache.setdefault(four, "anew") == "anew"
    assert cache.get_or_compute(five, lambda: "computed") == "computed"
    assert cache.incr(six, 3, initial=4) == 7
    kind.deaf = False
    kind.kept.update(kept)
    assert [cache.get(n) for n in (one, two, three, four, five, six)] == ["anew", "anew", None, "anew", "computed", 7]
    assert all(cache.get(n) is None for n in far[:60])


@answers
def test_incr_without_a_start(cache, kind, what):
    n = far_keys(cache, kind)[-1]
    spoil(kind, what)
    with pytest.raises(KeyError):
        cache.incr(n, initial=None)


def test_memoized(cache, kind):
    calls = []

    @cache.memoize(ttl=100)
    def double(n):
        calls.append(n)
        return value(n, 2) * 2
    assert [double(n) for n in range(40)] == [value(n, 2) * 2 for n in range(40)]
    for n in range(KEYS, KEYS + 600):
        cache.set(n, value(n))
        if n % 16 == 0:
            cache.expire()
    kind.deaf = True
    count = len(calls)
    assert [double(n) for n in range(40)] == [value(n, 2) * 2 for n in range(40)]
    assert len(calls) >= count


def test_a_cache_says_no_to_another_tier(make_arena, kind, arena_name):
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False)
    eng.cache("c", far="dict:")
    with pytest.raises(ValueError, match="was made with"):
        eng.cache("c", far="dict:other")
    assert eng.cache("c").set(1, 2)
    with pytest.raises(ValueError, match="far_persistent"):
        eng.cache("d", far="dict:", far_persistent=True)
    with engine.Cache(arena_name, far="dict:", capacity="2MiB") as mine:
        assert mine.set("a", 1) and mine.get("a") == 1 and mine.namespace("more").set("a", 2)
        with engine.attach(arena_name) as other:
            assert other.pool("cache").far == other.pool("cache:more").far == "dict:"
            assert_sound(other)
    engine.unlink(arena_name)
