"""A program written against the typed interface; `make lint` type-checks it, and a test runs it.

Every public call occurs once, with its answer held in a variable of the type a user would expect.
"""
from __future__ import annotations

import asyncio
import datetime
from typing import Any

import engine


def fill(pool: engine.Pool, start: int) -> None:
    pool.put(engine.oid(start), 0, b"filled")


class Allocations:
    """Host operations that allow everything."""

    def obj_alloc(self, pool_id: int) -> bool:
        return True

    def obj_free(self, pool_id: int) -> None:
        pass

    def objnode_alloc(self, pool_id: int) -> bool:
        return True

    def objnode_free(self, pool_id: int) -> None:
        pass


class Shelf:
    """A page back end: pages in a dict of this process."""

    def __init__(self) -> None:
        self.pages: dict[int, bytes] = {}

    def create(self, pool_id: int, oid: tuple[int, int, int], index: int, data: bytes) -> int | None:
        pampd = len(self.pages) + 1
        self.pages[pampd] = data
        return pampd

    def get_data(self, pool_id: int, oid: tuple[int, int, int], index: int, pampd: int) -> bytes | None:
        return self.pages.get(pampd)

    def get_data_and_free(self, pool_id: int, oid: tuple[int, int, int], index: int, pampd: int) -> bytes | None:
        return self.pages.pop(pampd, None)

    def free(self, pool_id: int, oid: tuple[int, int, int], index: int, pampd: int) -> None:
        del self.pages[pampd]

    def new_obj(self, pool_id: int, oid: tuple[int, int, int]) -> None:
        pass

    def free_obj(self, pool_id: int, oid: tuple[int, int, int]) -> None:
        pass

    def is_remote(self, pampd: int) -> bool:
        return False

    def replace_in_obj(self, pool_id: int, oid: tuple[int, int, int], index: int, old: int, new: int) -> bool:
        return True


def pages(eng: engine.Engine) -> None:
    pool: engine.Pool = eng.new_pool("typed", persistent=False, shared=True, client=0, pam="raw")
    same: engine.Pool = eng.pool("typed")
    by_id: engine.Pool = eng.pool(pool.id)
    everyone: list[engine.Pool] = eng.pools()
    assert {same.id, by_id.id} == {each.id for each in everyone} == {pool.id}
    size: int = pool.page_size
    facts: tuple[str, bool, bool, int, str] = (pool.name, pool.persistent, pool.shared, pool.client, pool.pam)
    assert facts == ("typed", False, True, 0, "raw")
    more: tuple[str, int, tuple[int, ...] | None] = (pool.policy, pool.cap, pool.allow)
    assert more == ("s3fifo", 0, None)

    oid: tuple[int, int, int] = engine.oid("a key")
    stored: bool = pool.put(oid, 0, b"one page")
    page: bytes | None = pool.get(oid, 0)
    assert stored and page == b"one page"
    buffer = bytearray(size)
    copied: int = pool.get_into(oid, 0, buffer, free=False)
    assert bytes(buffer[:copied]) == page
    info: tuple[int, int, int] | None = pool.object_info(oid)
    descriptor: tuple[int, int] | None = pool.descriptor(oid, 0)
    assert info is not None and descriptor is not None
    flushed: bool = pool.flush_page([*oid], 0)
    whole: bool = pool.put_range(oid, 5, memoryview(bytes(2 * size)))
    joined: bytes | None = pool.get_range(oid, 5, 2, free=False)
    assert flushed and whole and joined == bytes(2 * size)
    long: int = pool.get_range_into(oid, 5, 2, bytearray(2 * size), free=False)
    many: list[bool] = pool.put_many([(oid, 20), (oid, 21)], [b"one", bytearray(b"two")])
    found: list[bytes | None] = pool.get_many([(oid, 21), (oid, 22)], free=False)
    assert long == 2 * size and many == [True, True] and found == [b"two", None]

    thing: engine.Object = pool.object(oid)
    assert thing.oid == oid and thing.pool.id == pool.id and pool.engine.closed is False
    assert thing.put_many(range(30, 32), [b"a", b"b"]) == [True, True] and thing.get_many((31,)) == [b"b"]
    assert thing.put(9, bytearray(b"x")) and thing.get(9) == b"x" and thing.flush_page(9)
    gone: bool = pool.flush_object(oid)
    count: int = pool.obj_count
    assert gone and count == 0
    pool.destroy()


def back_ends(eng: engine.Engine) -> None:
    engine.register_hostops(Allocations())
    engine.register_hostops(None)
    engine.register_pam("typed-shelf", Shelf)
    pool = eng.new_pool("shelf", pam="typed-shelf")
    assert pool.put((1, 2, 3), 4, b"on the shelf") and pool.get((1, 2, 3), 4) == b"on the shelf"
    found = pool.descriptor((1, 2, 3), 4)
    assert found is not None
    pampd, generation = found
    replaced: bool = pool.replace((1, 2, 3), 4, pampd, generation)
    assert replaced
    pool.destroy()


def workers(eng: engine.Engine) -> None:
    pool = eng.new_pool("crew")
    with eng.spawn(2, fill, pool, 7) as crew:
        ended: bool = crew.join(timeout=60)
        codes: list[int | None] = crew.exitcodes
        restarts: int = crew.restarts
    assert ended and codes == [0, 0] and restarts == 0 and len(crew) == 2
    assert pool.get(engine.oid(7), 0) == b"filled"


def leases(eng: engine.Engine) -> None:
    lease: engine.Lease = eng.lease("typed", timeout=1)
    with lease as held:
        mine: bool = held.mine()
        other: bool = lease.locked()
        again: bool = lease.try_acquire()
    assert mine and other and not again
    taken: bool = eng.lease(lease.oid).acquire(timeout=0.5) or lease.acquire(blocking=False)
    name: tuple[int, int, int] = lease.oid
    seconds: float | None = lease.timeout
    assert taken and name == engine.oid("typed") and seconds == 1 and lease.engine is eng
    lease.release()
    try:
        raise engine.LeaseTimeout("late")
    except TimeoutError as error:
        assert isinstance(error, engine.TmemError)


def looks(eng: engine.Engine) -> None:
    stats = eng.stats()
    puts: int = stats["total"]["puts_ok"]
    waits: int = stats["total"]["lock_waits"]
    per_pool: dict[str, int] = {name: counters["pages"] for name, counters in stats["pools"].items()}
    backed: int = stats["arena"]["bytes_backed"]
    assert puts and waits >= 0 and backed and set(per_pool) == {"crew"}
    report: engine.Report = eng.check()
    problems: list[engine.Problem] = report.problems
    lines: list[str] = [f"{problem.id} {problem.where}: {problem.what}" for problem in problems]
    lost: list[str] = [pool for pool, oid, index in report.lost]
    assert report.ok and not lines and not lost and not report.repaired
    recovered: int = eng.recover()
    tended: engine.Tended = eng.tend() + eng.tend(0.1)
    assert tended.rounds >= 2 and tended.merged + tended.given + tended.dead + tended.inherited >= 0
    assert tended.idle or not tended.idle
    capacity: int = eng.resize(eng.max_capacity)
    assert capacity == eng.capacity
    assert recovered == 0


def caches(eng: engine.Engine) -> None:
    cache: engine.Cache = eng.cache("typed-cache", ttl=60.0)
    kept: bool = cache.set("k", {"a": 1}, ttl=datetime.timedelta(seconds=5))
    added: bool = cache.add("k", 1)
    version: int | None = cache.get("k", with_version=True)[1]
    assert kept and not added and cache.cas("k", 2, version) and cache.replace("k", 3) and cache.get("k") == 3
    left: float | None = cache.expires("k")
    assert left is not None and cache.touch("k", 100) and cache.has("k") and cache.delete("k")
    count: int = cache.incr("n", 2) + cache.decr("n")
    refused: list[Any] = cache.set_many({"a": 1}, ttl=5)
    found: dict[Any, Any] = cache.get_many(["a", "b"])
    assert count == 3 and not refused and found == {"a": 1} and cache.delete_many(["a"]) == 1
    computed: str = cache.get_or_compute("c", lambda: "computed", stale=5, beta=1)
    awaited: int = asyncio.run(cache.aget_or_compute("d", one))
    assert computed == "computed" and awaited == 1

    @cache.memoize(ttl=60)
    def square(n: int) -> int:
        return n * n

    @cache.memoize
    def cube(n: int) -> int:
        return n**3

    answer: int = square(3) + cube(2)
    misses: int = square.cache_info().misses
    assert answer == 17 and misses == 1 and square.__wrapped__(4) == 16 and square.cache_key(3) in cache
    square.cache_clear()
    space: engine.Cache = cache.namespace("space")
    space["x"] = 1
    assert space["x"] == space.setdefault("x", 2) == space.pop("x") and len(space) == 0 and not list(space)
    hits: int = cache.stats()["hits"]
    assert hits and set(cache.keys()) >= {"n", "c"} and (cache.name, cache.arena) == ("typed-cache", eng.name)
    cache.expire()
    cache.clear()
    for pool in eng.pools():
        if pool.name.startswith("typed-cache"):
            pool.destroy()


async def one() -> int:
    return 1


def use(name: str) -> None:
    with engine.create(name, capacity="16MiB", page_size=4096, buckets=64, max_workers=8, mode=0o600) as eng:
        pages(eng)
        back_ends(eng)
        caches(eng)
        workers(eng)
        leases(eng)
        looks(eng)
        other: engine.Engine = engine.open(name)
        assert (other.name, other.capacity, other.buckets) == (eng.name, eng.capacity, eng.buckets)
        other.close()
        with engine.Cache(name, "lazy", ttl=5) as lazy:
            lazy["k"] = 1
            assert lazy["k"] == 1
        guest: engine.Engine = engine.attach(name, client=7)
        who: int | None = guest.client_id
        mine: engine.Pool = guest.new_pool("of-7", allow=[8, 9])
        assert (who, mine.client, mine.allow) == (7, 7, (8, 9))
        with guest.spawn(1, fill, mine, 7, client=7) as crew:
            pass
        assert crew.exitcodes == [0]
        guest.close()
    engine.unlink(name)
    try:
        engine.attach(name)
    except engine.ArenaNotFound as error:
        assert isinstance(error, engine.TmemError)
