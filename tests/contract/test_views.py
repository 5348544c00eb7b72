"""Owns the contract of views: pages read where they lie stay as they are until they are let go,
whoever does what meanwhile."""
import gc
import os
import pickle
import random
import signal
import threading

import numpy as np
import pytest

import engine
from engine.eviction.policies import POLICIES
from tests.crash.killing import fork
from tests.support import KINDS, DictPam, text

PAGE = 4096
OID = (1, 2, 3)
MIB = 1 << 20


def page(n, length=PAGE):
    """A page that names n, and is not one word over and over."""
    return (b"%d/" % n + bytes([n & 255]) * PAGE)[:length]


def pinned(eng):
    return eng.stats()["arena"]["pinned_bytes"]


def sound(eng, **counts):
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:5]]
    assert {name: report.counts[name] for name in counts} == counts


def fill(pool, first=0):
    """Put pages until no more go in; how many went."""
    n = first
    while pool.put((n // 64, 9, 9), n % 64, page(n)):
        n += 1
    return n


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("via", ["pool", "object"])
def test_a_view_gives_the_page_and_lets_it_go(make_arena, kind, via):
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", **KINDS[kind])
    sizes = [1, 63, 64, 65, 1000, 4095, 4096]
    for i, length in enumerate(sizes):
        pool.put(OID, i, page(i, length))

    def view(*args):
        return pool.view(OID, *args) if via == "pool" else pool.object(OID).view(*args)

    for i, length in enumerate(sizes):
        with view(i) as found:
            assert isinstance(found, memoryview) and found.readonly and found.format == "B" and found.contiguous
            assert found == page(i, length) and pinned(eng) >= length
        with pytest.raises(ValueError, match="released"):
            bytes(found)
        assert pinned(eng) == 0
    with view(0, len(sizes)) as pages:
        assert [bytes(one) for one in pages] == [page(i, length) for i, length in enumerate(sizes)]
        sound(eng, pins=len(sizes), limbo=0)
    stats = eng.stats()["pools"]["p"]
    assert stats["pages"] == len(sizes) and (stats["gets_hit"], stats["gets_miss"]) == (len(sizes) + 1, 0)
    for missed in (view(99), view(5, 3)):
        assert not missed.found
        with missed as nothing:
            assert nothing is None
    assert eng.stats()["pools"]["p"]["gets_miss"] == 2
    sound(eng, pins=0, limbo=0)


def test_a_view_left_is_over(make_arena):
    eng = make_arena()
    pool = eng.new_pool("p")
    pool.put(OID, 0, page(0, 300))
    view = pool.view(OID, 0)
    assert view.found and not view.released and "held" in repr(view)
    with view as found:
        assert found == page(0, 300)
    assert view.released and not view.found and "released" in repr(view)
    view.release()
    with pytest.raises(ValueError, match="released"), view:
        pass


@pytest.mark.parametrize("change", ["put", "put-same-filled", "flush", "flush-object", "take", "destroy", "put-range"])
def test_what_is_seen_stays_whatever_becomes_of_the_page(make_arena, change):
    eng = make_arena(capacity="1MiB", page_size=PAGE, max_pinned="64KiB")
    other = engine.attach(eng.name)
    with other:
        pool = eng.new_pool("p", persistent=True)
        for i in range(4):
            pool.put(OID, i, page(i))
        theirs = other.pool("p")
        with pool.view(OID, 1) as one, pool.view(OID, 1, 3) as three:
            {
                "put": lambda: theirs.put(OID, 1, page(70)),
                "put-same-filled": lambda: theirs.put(OID, 1, bytes(PAGE)),
                "flush": lambda: theirs.flush_page(OID, 1),
                "flush-object": lambda: theirs.flush_object(OID),
                "take": lambda: theirs.get(OID, 1, free=True),
                "destroy": theirs.destroy,
                "put-range": lambda: theirs.put_range(OID, 0, page(90) * 4),
            }[change]()
            again = pool if change != "destroy" else eng.new_pool("another", persistent=True)
            last = fill(again)
            assert last > 150 and one == page(1) and [bytes(each) for each in three] == [page(i) for i in (1, 2, 3)]
            sound(eng, pins=4)
        sound(eng, pins=0, limbo=0)
        # Once nobody looks, the chunks are used again.
        more = fill(again, last) - last
        assert (
            more
            == {"put": 1, "put-same-filled": 1, "flush": 1, "flush-object": 3, "take": 1, "destroy": 3, "put-range": 3}[
                change
            ]
        )
        assert all(again.get((n // 64, 9, 9), n % 64) == page(n) for n in range(last + more))
        sound(eng, pins=0, limbo=0)


@pytest.mark.parametrize("policy", list(POLICIES))
def test_a_viewed_page_is_not_evicted(make_arena, policy):
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool = eng.new_pool("p", policy=policy)
    for i in range(20):
        pool.put(OID, i, page(i))
    with pool.view(OID, 3) as one, pool.view(OID, 10, 8) as more:
        for n in range(3000):
            assert pool.put((n // 64, 9, 9), n % 64, page(n))
        assert one == page(3) and [bytes(each) for each in more] == [page(i) for i in range(10, 18)]
        assert [i for i in range(20) if pool.get(OID, i) is not None] == [3, *range(10, 18)]
        sound(eng, pins=9, limbo=0)
    fill(eng.new_pool("q", persistent=True))
    assert not any(pool.get(OID, i) for i in range(20))
    sound(eng, pins=0, limbo=0)


def scattered(pool, count):
    """Put many pages into an ephemeral pool: the numbers of those that are there in the end."""
    for n in range(count):
        pool.put((n // 64, 9, 9), n % 64, page(n))
    return [n for n in range(count) if pool.get((n // 64, 9, 9), n % 64) is not None]


def test_pages_of_another_size_find_room_around_views(make_arena):
    """Segments change their class only when nobody looks into them."""
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool = eng.new_pool("p")
    alive = scattered(pool, 300)
    held = [(n, pool.view((n // 64, 9, 9), n % 64)) for n in random.Random(3).sample(alive, 20)]
    for n in range(6000):
        assert pool.put((n // 64, 8, 8), n % 64, page(n, 700))
    for n, view in held:
        with view as found:
            assert found == page(n)
    sound(eng, pins=0, limbo=0)


def test_a_put_over_what_is_viewed_in_an_arena_without_a_chunk_left(make_arena):
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool = eng.new_pool("p", persistent=True)
    last = fill(pool)
    with pool.view((1, 9, 9), 3) as found:
        assert not pool.put((1, 9, 9), 3, page(500)) and pool.get((1, 9, 9), 3) is None
        assert found == page(67)
        assert pool.put((1, 9, 9), 4, page(500)) and pool.get((1, 9, 9), 4) == page(500)
    assert pool.put((1, 9, 9), 3, page(501)) and not pool.put((50, 9, 9), 0, page(1))
    assert pool.get((1, 9, 9), 3) == page(501) and last > 200
    sound(eng, pins=0, limbo=0)


@pytest.mark.parametrize("pam", ["raw", "lz4", "zstd", "python"])
def test_what_lies_elsewhere_or_otherwise_comes_as_a_copy(make_arena, pam):
    eng = make_arena(page_size=PAGE)
    if pam == "python":
        engine.register_pam("python", DictPam)
    pool = eng.new_pool("p", pam=pam)
    contents = [text(1, PAGE), bytes(PAGE), b"ab" * 1000, page(3), random.Random(5).randbytes(PAGE), b"x"]
    for i, data in enumerate(contents):
        assert pool.put(OID, i, data)
    for i, data in enumerate(contents):
        with pool.view(OID, i) as found:
            assert found == data and found.readonly
    with pool.view(OID, 0, len(contents)) as pages:
        assert [bytes(one) for one in pages] == contents
    assert not pool.view(OID, 3, len(contents)).found and pinned(eng) == 0
    sound(eng, pins=0, limbo=0)


def test_pages_of_equal_content(make_arena):
    """The last page that shares a chunk hands it to limbo while somebody looks at it."""
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool = eng.new_pool("p", dedup=True)
    for i in range(6):
        pool.put(OID, i, page(i % 2))
    with pool.view(OID, 0) as found:
        for i in range(0, 6, 2):
            assert pool.flush_page(OID, i)
        sound(eng, pins=1, limbo=1)
        pool.put(OID, 8, page(0))
        for n in range(1000):
            assert pool.put((n // 64, 9, 9), n % 64, page(n + 2))
        assert found == page(0)
        sound(eng, pins=1)
    with pool.view((15, 9, 9), 30) as found:
        other = eng.new_pool("q")
        for n in range(1000):
            assert other.put((n // 64, 9, 9), n % 64, page(n + 2))
        assert found == page(992) and pool.get((15, 9, 9), 30) == page(992)
    assert eng.stats()["arena"]["pinned_bytes"] == 0
    pool.destroy()
    sound(eng, pins=0, limbo=0)


def test_what_is_made_of_a_view_keeps_the_page(make_arena):
    eng = make_arena(page_size=PAGE)
    pool = eng.new_pool("p")
    pool.put(OID, 0, page(0))
    pool.put(OID, 1, page(1))
    with pytest.raises(BufferError), pool.view(OID, 0) as found:
        part = found[10:20]
    assert part == page(0)[10:20] and pinned(eng) == PAGE
    pool.put(OID, 0, page(7))
    assert part == page(0)[10:20]
    del part
    assert pinned(eng) == 0
    with pytest.raises(BufferError), pool.view(OID, 1) as found:
        array = np.frombuffer(found, dtype=np.uint8)
        assert not array.flags.writeable
    assert pinned(eng) == PAGE and bytes(array) == page(1)
    del array
    assert pinned(eng) == 0
    view = pool.view(OID, 0, 2)
    array = pickle.PickleBuffer(view.__enter__()[1])
    with pytest.raises(BufferError, match="1 pages of this view are still in use"):
        view.release()
    assert pinned(eng) == PAGE and bytes(array) == page(1)
    pool.flush_object(OID)
    assert bytes(array) == page(1)
    sound(eng, pins=1, limbo=1)
    del array
    sound(eng, pins=0, limbo=0)


def test_bytes_that_are_read_only(make_arena):
    eng = make_arena()
    pool = eng.new_pool("p")
    pool.put(OID, 0, b"once")
    with pool.view(OID, 0) as found:
        with pytest.raises(TypeError):
            found[0] = 1
        with open("/dev/zero", "rb", buffering=0) as source, pytest.raises(TypeError):
            source.readinto(found.obj)
        with pytest.raises(ValueError):
            np.frombuffer(found, dtype=np.uint8).setflags(write=True)
        assert found == b"once"


@pytest.mark.parametrize(("args", "error", "match"), [
    ((OID, 0, 0), ValueError, "count: None, or 1 to 4096 pages, not 0"),
    ((OID, 0, 4097), ValueError, "count: None, or 1 to 4096 pages"),
    ((OID, 0, "1"), TypeError, "count: an int"),
    ((OID, 2**64 - 1, 2), ValueError, r"passes 2\*\*64"),
    ((OID, -1), ValueError, "index"),
    (((1, 2), 0), ValueError, "oid"),
])
def test_arguments(make_arena, args, error, match):
    pool = make_arena().new_pool("p")
    with pytest.raises(error, match=match):
        pool.view(*args)


def test_a_view_of_a_pool_that_is_gone(make_arena):
    eng = make_arena()
    pool = eng.new_pool("p")
    pool.put(OID, 0, b"x")
    pool.destroy()
    with pytest.raises(engine.PoolDestroyed):
        pool.view(OID, 0)


def test_no_more_is_pinned_than_may_be(make_arena):
    """The cap holds for all workers together; what does not fit is not pinned in part."""
    eng = make_arena(capacity="1MiB", page_size=PAGE, max_pinned=10 * PAGE)
    with engine.attach(eng.name) as other:
        pool, theirs = eng.new_pool("p"), other.pool("p")
        pool.object(OID).put_range(0, b"".join(page(i) for i in range(20)))
        mine = [pool.view(OID, 0) for _ in range(4)]
        more = theirs.view(OID, 0, 5)
        assert pinned(eng) == 9 * PAGE and eng.stats()["arena"]["pinned_max"] == 10 * PAGE
        for refused in (lambda: theirs.view(OID, 5, 2), lambda: pool.view(OID, 0, 20)):
            with pytest.raises(engine.TooMuchPinned, match="40960 bytes together"):
                refused()
        assert pinned(eng) == 9 * PAGE
        with theirs.view(OID, 5) as found:
            assert found == page(5)
        more.release()
        with pool.view(OID, 0, 6):
            assert pinned(eng) == 10 * PAGE
        for view in mine:
            view.release()
        assert pinned(eng) == 0
        sound(eng, pins=0)


def test_the_cap_is_an_argument(arena_name):
    for wrong, error in ((-1, ValueError), ("2MiB", ValueError), ("much", ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="max_pinned"):
            engine.create(arena_name, "1MiB", max_pinned=wrong)
    with engine.create(arena_name, "1MiB", max_pinned=0) as eng:
        pool = eng.new_pool("p")
        pool.put(OID, 0, page(0))
        pool.put(OID, 1, bytes(100))
        with pytest.raises(engine.TooMuchPinned):
            pool.view(OID, 0)
        with pool.view(OID, 1) as found:
            assert found == bytes(100)      # nothing to pin
    engine.unlink(arena_name)


def test_as_many_as_a_worker_can_have(make_arena):
    eng = make_arena(capacity="4MiB", page_size=512, max_pinned="4MiB")
    pool = eng.new_pool("p", persistent=True)
    pool.put(OID, 0, page(0, 100))
    held = [pool.view(OID, 0) for _ in range(4096)]
    with pytest.raises(engine.TooMuchPinned, match="4096 pages of one worker"):
        pool.view(OID, 0)
    random.Random(1).shuffle(held)
    for _ in range(1000):
        held.pop().release()
    held += [pool.view(OID, 0) for _ in range(1000)]
    sound(eng, pins=4096)
    with engine.attach(eng.name) as other, other.pool("p").view(OID, 0) as found:
        assert found == page(0, 100)
    held.clear()
    assert pinned(eng) == 0
    sound(eng, pins=0)


def test_closing_waits_for_views(make_arena):
    eng = make_arena()
    pool = eng.new_pool("p")
    pool.put(OID, 0, page(0, 100))
    with engine.attach(eng.name) as other:
        view = other.pool("p").view(OID, 0)
        with pytest.raises(BufferError, match="1 pages are viewed"):
            other.close()
        assert not other.closed and view.__enter__() == page(0, 100)
        view.release()
    assert other.closed
    sound(eng, pins=0)


def test_a_dead_worker_has_no_views(make_arena):
    """What it looked at goes back to the arena, limbo included, and is used again."""
    eng = make_arena(capacity="1MiB", page_size=PAGE, max_pinned="512KiB")
    pool = eng.new_pool("p", persistent=True)
    last = fill(pool)

    def die():
        mine = engine.attach(eng.name)
        _held = [mine.pool("p").view((i, 9, 9), 0, 40) for i in range(3)]
        mine.pool("p").flush_object((0, 9, 9))
        mine.pool("p").flush_object((1, 9, 9))
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(fork(die), 0)
    assert pinned(eng) == 120 * PAGE
    sound(eng, pins=0, limbo=80)
    assert eng.stats()["arena"]["workers"] == 1 and pinned(eng) == 0
    assert fill(pool, last) - last in range(120, 135)
    sound(eng, pins=0, limbo=0)


def test_a_newcomer_in_a_dead_workers_slot(arena_name):
    with engine.create(arena_name, "1MiB", max_workers=2) as eng:
        pool = eng.new_pool("p", persistent=True)
        pool.put(OID, 0, page(0))

        def die():
            mine = engine.attach(arena_name)
            _view = mine.pool("p").view(OID, 0)
            mine.pool("p").flush_page(OID, 0)
            os.kill(os.getpid(), signal.SIGKILL)

        for _ in range(3):
            os.waitpid(fork(die), 0)
        with engine.attach(arena_name) as other:
            assert other.worker_id == 1 and pinned(other) == 0
            pool.put(OID, 0, page(0))
            with other.pool("p").view(OID, 0) as found:
                assert found == page(0)
        sound(eng, pins=0)
    engine.unlink(arena_name)


def test_a_forked_child_does_not_let_go_for_its_parent(make_arena):
    eng = make_arena(page_size=PAGE)
    pool = eng.new_pool("p")
    pool.put(OID, 0, page(0))
    view = pool.view(OID, 0)

    def child():
        nonlocal view
        del view
        gc.collect()
        with pool.view(OID, 0) as found:        # a worker of its own from here on
            os._exit(0 if found == page(0) else 9)

    pid = fork(child)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    pool.put(OID, 0, page(1))
    eng.recover()
    assert pinned(eng) == PAGE
    with view as found:
        assert found == page(0)
    assert pinned(eng) == 0
    sound(eng, pins=0, limbo=0)


def test_a_view_dropped_inside_another_call(make_arena):
    """A back end in Python frees the last reference while the engine is busy with its put: the page
    is given back by who needs it."""
    held = []

    class Dropping(DictPam):
        def create(self, pool_id, oid, index, data):
            held.clear()
            return super().create(pool_id, oid, index, data)

    engine.register_pam("dropping", Dropping)
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool, foreign = eng.new_pool("p", persistent=True), eng.new_pool("f", pam="dropping")
    foreign.put(OID, 0, b"x")
    last = fill(pool)
    held.append(pool.view((0, 9, 9), 5))
    assert pool.flush_page((0, 9, 9), 5)
    sound(eng, pins=1, limbo=1)
    foreign.put(OID, 0, b"y")
    sound(eng, pins=0, limbo=1)
    assert fill(pool, last) == last + 1
    sound(eng, pins=0, limbo=0)


def test_a_smaller_arena_around_views(make_arena):
    eng = make_arena(capacity="4MiB", page_size=PAGE)
    pool = eng.new_pool("p")
    alive = scattered(pool, 2000)
    chosen = random.Random(5).sample(alive, 6)
    held = [pool.view((n // 64, 9, 9), n % 64) for n in chosen]
    assert eng.resize("2MiB") == 2 * MIB
    for n in range(2000):
        assert pool.put((n // 64, 8, 8), n % 64, page(n))
    for n, view in zip(chosen, held, strict=True):
        with view as found:
            assert found == page(n)
    sound(eng, pins=0)
    assert eng.resize("1MiB") == MIB
    sound(eng, pins=0, limbo=0)


def test_what_is_viewed_stands_in_the_way_of_an_arena_too_small_for_it(make_arena):
    eng = make_arena(capacity="4MiB", page_size=PAGE, max_pinned="4MiB")
    pool = eng.new_pool("p")
    for n in range(400):
        pool.put((n // 64, 9, 9), n % 64, page(n))
    held = [pool.view((n // 64, 9, 9), n % 64) for n in range(400) if pool.get((n // 64, 9, 9), n % 64) is not None]
    with pytest.raises(engine.TmemError, match="viewed|views"):
        eng.resize("1MiB")
    assert eng.capacity == 4 * MIB
    for view in held:
        view.release()
    held.clear()
    assert eng.resize("1MiB") == MIB
    sound(eng, pins=0, limbo=0)


def test_a_repair_keeps_what_is_viewed(make_arena):
    """The object is lost, and the page of it that somebody looks at stays where it is until
    then."""
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    pool = eng.new_pool("p", persistent=True)
    for i in range(8):
        pool.put(OID, i, page(i))
    pool.put((5, 0, 0), 0, page(50))
    with pool.view(OID, 2) as lost, pool.view((5, 0, 0), 0) as kept, pool.view(OID, 3) as flushed:
        pool.flush_page(OID, 3)
        path = f"/dev/shm/{eng.name}"
        with open(path, "r+b") as file:
            data = file.read()
            sentinel = (0x6F626A31).to_bytes(8, "little")
            at = data.index(sentinel)
            while data[at + 16:at + 40] != b"".join(word.to_bytes(8, "little") for word in OID):
                at = data.index(sentinel, at + 8)
            file.seek(at + 72)              # its height
            file.write((7).to_bytes(8, "little"))
            root = int.from_bytes(data[at + 64:at + 72], "little") & (1 << 37) - 1
            file.seek(root * 64)            # and the sentinel of its top node
            file.write(bytes(8))
        report = eng.check(repair=True)
        assert report.ok and report.lost and report.counts["limbo"] == 2
        assert pool.get(OID, 2) is None and pool.get((5, 0, 0), 0) == page(50)
        fill(pool)
        assert lost == page(2) and kept == page(50) and flushed == page(3)
        sound(eng, pins=3, limbo=2)
    sound(eng, pins=0, limbo=0)


def test_threads(make_arena):
    """Each looks, compares and lets go, while the pages under the handles change."""
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", persistent=True)
    for i in range(8):
        pool.put(OID, i, page(i))
    wrong = []

    def look(seed):
        rnd = random.Random(seed)
        for _ in range(800):
            i = rnd.randrange(8)
            if rnd.randrange(3) == 0:
                pool.put(OID, i, page(i + 8 * rnd.randrange(30)))
            with pool.view(OID, i) as found:
                copy = bytes(found)
                number = int(copy[:copy.index(b"/")])
                if copy != page(number) or number % 8 != i or bytes(found) != copy:
                    wrong.append(copy[:10])

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    sound(eng, pins=0, limbo=0)


def _look_and_change(eng, seed, rounds):
    """A worker of the test below: looks at pages, a few at a time, while it and others put, flush
    and evict."""
    rnd = random.Random(seed)
    pool = eng.pool("p")
    held = []
    for _ in range(rounds):
        obj, i = rnd.randrange(4), rnd.randrange(300)
        what = rnd.randrange(10)
        if what < 4:
            view = pool.view((obj, 0, 0), i)
            if view.found:
                held.append((view, obj, i, bytes(view.__enter__())))
        elif what < 8:
            pool.put(
                (obj, 0, 0),
                i,
                b"%d,%d/" % (obj, i) + bytes([rnd.randrange(1, 256)]) * rnd.randrange(100, PAGE - 20) + b"end",
            )
        else:
            pool.flush_page((obj, 0, 0), i)
        if len(held) > 8 or (held and rnd.randrange(4) == 0):
            view, obj, i, seen = held.pop(rnd.randrange(len(held)))
            now = bytes(view.__enter__())
            view.release()
            assert now == seen and seen.startswith(b"%d,%d/" % (obj, i)) and seen.endswith(b"end")
    for view, _, _, seen in held:
        with view as found:
            assert found == seen


def test_many_workers(make_arena):
    eng = make_arena(capacity="1MiB", page_size=PAGE)
    eng.new_pool("p")
    with eng.spawn(4, _look_and_change_worker, eng, 6000) as crew:
        assert crew.join(120)
        assert crew.exitcodes == [0] * 4
    eng.recover()
    assert pinned(eng) == 0
    eng.pool("p").destroy()
    sound(eng, pins=0, limbo=0)


def _look_and_change_worker(eng, rounds):
    _look_and_change(eng, eng.worker_id, rounds)


@pytest.mark.parametrize(
    "keep",
    [lambda page: page[5:], memoryview, lambda page: np.frombuffer(page, "u1"), np.asarray],
    ids=["slice", "memoryview", "frombuffer", "asarray"],
)
@pytest.mark.parametrize("count", [None, 2])
def test_leaving_a_view_tells_what_still_looks_at_it(eng, keep, count):
    pool = eng.new_pool("p")
    for index in range(2):
        pool.put(OID, index, bytes(range(200)))
    kept = []
    with pytest.raises(BufferError, match=f"{count or 1} pages of this view are still in use"):
        with pool.view(OID, 0, count) as pages:
            kept.extend(keep(page) for page in (pages if count else [pages]))
    assert eng.stats()["arena"]["pinned_bytes"] > 0
    assert [bytes(page)[-1] for page in kept] == [199] * (count or 1)
    kept.clear()
    assert eng.stats()["arena"]["pinned_bytes"] == 0
    # What is raised inside is not covered up.
    with pytest.raises(KeyError):
        with pool.view(OID, 0) as page:
            kept.append(keep(page))
            raise KeyError
    with pool.view(OID, 0) as page:
        assert bytes(keep(page))[-1] == 199     # gone by the end of the line
