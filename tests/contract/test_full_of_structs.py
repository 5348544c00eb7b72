"""Owns arenas so full of persistent pages that the structs of a put have no memory either: each put
is done or refused, what else is there stays, and none goes round in circles."""
import random

import pytest

INDEXES = (0, 5, 70, 5000, 1 << 40)
LENGTHS = (0, 8, 100, 250, 1000, 4096)


def fill(pool, rnd):
    """Pages of one length, each an object of its own, until one is refused."""
    length, form = rnd.choice(LENGTHS), rnd.randrange(3)
    there = {}
    while True:
        number = len(there)
        index = 0 if form == 0 or form == 2 and number % 2 else 5
        data = bytes([number % 251 + 1]) * length
        if not pool.put((number, 0, 0), index, data):
            return there
        there[number, index] = data


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(1, 9))
def test_every_put_ends(make_arena, seed):
    rnd = random.Random(seed)
    eng = make_arena(capacity=rnd.choice(("1MiB", "2MiB", "4MiB")), max_workers=4, max_pools=8, buckets=8,
                     page_size=4096)
    kept, cache = eng.new_pool("kept", persistent=True), eng.new_pool("cache")
    there = fill(kept, rnd)
    keys = list(there)
    objects = len(keys)
    for _ in range(1200):
        verb = rnd.randrange(6)
        if verb < 2 and keys:
            at = rnd.randrange(len(keys))
            keys[at], keys[-1] = keys[-1], keys[at]
            obj, index = keys.pop()
            assert kept.flush_page((obj, 0, 0), index)
            del there[obj, index]
            continue
        obj, index = rnd.randrange(objects + 50), rnd.choice((0, *INDEXES))
        data = bytes([rnd.randrange(1, 255)]) * rnd.choice((0, 8, 16, 100, 250, 1000, 4096))
        pool = kept if verb < 5 else cache
        whole = rnd.random() >= .7 and index == 0
        put = pool.put_object((obj, 0, 0), data, ttl=rnd.choice((None, 100))) if whole else pool.put(
            (obj, 0, 0), index, data
        )
        if pool is cache:
            continue
        gone = {key for key in there if key[0] == obj and (whole or key[1] == index)}
        keys = [key for key in keys if key not in gone]
        there = {key: there[key] for key in there if key not in gone}
        if put:
            there[obj, index] = data
            keys.append((obj, index))
    assert all(kept.get((obj, 0, 0), index, free=False) == data for (obj, index), data in there.items())
    assert eng.check().ok
