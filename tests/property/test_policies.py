"""Owns the promise that the engine's policies are the published ones: with one shard they agree
with a plain reference to the last miss."""
import random

import pytest

from engine.eviction.policies import POLICIES
from tests.property.policies import MODELS, Shared


def zipf(rnd, pages, count):
    """Requests of which few pages get most, with a scan of new pages now and then."""
    weights = [1 / (rank + 1) ** 0.9 for rank in range(pages)]
    found = rnd.choices(range(pages), weights, k=count)
    for start in range(0, count, 900):
        found[start:start] = range(10 ** 6 + start, 10 ** 6 + start + 60)
    return found


def loop(rnd, pages, count):
    """Round and round, a little more than fits, which is where FIFO and CLOCK miss everything."""
    return [n % pages if rnd.random() < 0.9 else rnd.randrange(pages) for n in range(count)]


def shift(rnd, pages, count):
    """A working set that moves."""
    return [n // 40 + int(rnd.expovariate(1 / 25)) % pages for n in range(count)]


def test_every_policy_has_a_model():
    """And no model is of a policy that there is not; both count as many hits."""
    assert {name: row.hits for name, row in POLICIES.items()} == {name: one.hits_max for name, one in MODELS.items()}


@pytest.mark.parametrize("trace", [zipf, loop, shift])
@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("frames", [1, 7, 50, 128])
def test_the_same_misses_as_the_reference(make_arena, policy, trace, frames):
    eng = make_arena(capacity="4MiB", shards=1)
    pool = eng.new_pool("p", shared=True, policy=policy, cap=frames)
    reference = MODELS[policy](frames)
    missed = 0
    for number, page in enumerate(trace(random.Random(5), 150, 5000)):
        oid, index = (page // 16, 0, 0), page % 16
        hit = pool.get(oid, index) is not None
        assert hit == reference.request(page), f"request {number}, page {page}"
        if not hit:
            missed += 1
            assert pool.put(oid, index, b"%d" % page)
    stats = eng.stats()["pools"]["p"]
    assert stats["gets_miss"] == missed and stats["pages"] == len(reference.hits) == frames
    assert stats["evicted"] == missed - frames
    report = eng.check()
    assert report.ok, report.problems[:3]


@pytest.mark.parametrize("policies", [("s3fifo", "s3fifo", "s3fifo"), ("s3fifo", "fifo"), ("fifo", "fifo", "fifo")])
@pytest.mark.parametrize("frames", [9, 120])
def test_pools_share_as_the_reference_says(make_arena, policies, frames):
    """Who goes is agreed to the last miss: busy pools, a scan, and one that is idle for most of the
    time."""
    eng = make_arena(capacity="4MiB", shards=1)
    eng.client(1, cap=frames)
    pools = {n: eng.new_pool(f"p{n}", client=1, policy=policy) for n, policy in enumerate(policies)}
    model, rnd = Shared(dict(enumerate(policies)), frames), random.Random(7)
    for number in range(6000):
        n = rnd.choices(range(len(pools)), [(6, 3, 1), (1, 8, 1), (6, 3, 0)][number // 700 % 3][: len(pools)])[0]
        page = number if n == 1 and number % 3 else int(frames * rnd.random() ** 2)
        oid, index = (page // 16, 0, 0), page % 16
        hit = pools[n].get(oid, index) is not None
        assert hit == model.request(n, page), f"request {number}, pool {n}, page {page}"
        if not hit:
            assert pools[n].put(oid, index, b"%d" % page)
    for n, pool in pools.items():
        assert eng.stats()["pools"][pool.name]["pages"] == len(model.pools[n].hits)
    assert eng.check().ok
