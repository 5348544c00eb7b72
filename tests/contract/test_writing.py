"""Owns the contract of pages that are written in place: nobody sees one before its block is left,
and whatever ends the block otherwise leaves what was there, and no memory taken."""
import gc
import os
import pickle
import random
import signal
import threading

import pytest

import engine
from tests.contract.test_long_pages import MIB, NOISE, OID, borders, page, sized, sound
from tests.stopped import fork
from tests.support import KINDS, DictPam

KIB = 1 << 10
LONG = 300_000
__all__ = ["sized"]


@pytest.fixture
def pool(make_arena):
    return make_arena(capacity="16MiB", page_size=4 * KIB, max_pinned="12MiB").new_pool(
        "p", persistent=True, page_size="16MiB")


def room(eng):
    """Pages of 4,000 bytes that still go in, of another worker, who empties magazines, too."""
    with engine.attach(eng.name) as other:
        pool = other.new_pool("room", persistent=True)
        n = 0
        while pool.put((n // 64, 7, 7), n % 64, page(n % 1000, 4000)):
            n += 1
        pool.destroy()
    return n


def write(pool, index, data):
    with pool.writing(OID, index, len(data)) as buffer:
        buffer[:] = data


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_page_of_every_length_is_seen_when_the_block_is_left(sized, kind):
    eng, segment = sized
    pool = eng.new_pool("p", page_size="4MiB", **KINDS[kind])
    with engine.attach(eng.name) as other:
        theirs = other.pool("p")
        for n, length in enumerate(borders(segment)):
            data = page(n, length)
            with pool.writing(OID, n, length) as buffer:
                assert len(buffer) == buffer.nbytes == length
                buffer[:] = data
                assert pool.object_info(OID) is None and theirs.get(OID, n) is None
                sound(eng, pins=1, pages=0)
            assert theirs.get(OID, n, free=False) == data
            # Over it: what was there is seen until then.
            with pool.writing(OID, n, length) as buffer:
                buffer[:length] = data[::-1]
                assert theirs.get(OID, n, free=False) == data
            assert theirs.get(OID, n, free=True) == data[::-1]
    sound(eng, pages=0, pins=0, limbo=0)
    counts = eng.stats()["pools"]["p"]
    assert counts["puts_ok"] == 2 * len(borders(segment)) == 2 * counts["puts_duplicate"]
    assert eng.stats()["total"]["bytes_used"] == 0


def test_its_buffer_is_what_a_memoryview_is(pool):
    np = pytest.importorskip("numpy")
    numbers = np.arange(50_000)
    with pool.writing(OID, 0, numbers.nbytes) as buffer:
        array = np.frombuffer(buffer, numbers.dtype)
        assert array.flags.writeable and array.ctypes.data % 64 == 0
        array[:] = numbers
        assert buffer[0] == 0 and buffer[8] == 1 and bytes(buffer[8:16]) == b"\1" + bytes(7)
        buffer[0] = 9
        buffer.cast("Q")[1] = 2**40
        assert not memoryview(buffer).readonly and "being written" in repr(buffer)
        del array
    numbers[:2] = 9, 2**40
    with pool.view(OID, 0) as seen:
        assert (np.frombuffer(seen, numbers.dtype) == numbers).all()
    assert "ended" in repr(buffer)
    for use in (lambda: buffer[0], lambda: memoryview(buffer), lambda: buffer.__setitem__(0, 1)):
        with pytest.raises(BufferError, match="inside the block"):
            use()
    for use in (lambda: buffer.cast("Q"), lambda: buffer.nbytes):
        with pytest.raises(AttributeError, match="outside its block"):
            use()


def test_wrong_use_is_named(pool):
    made = pool.writing(OID, 0, LONG)
    with pytest.raises(BufferError, match="inside the block"):
        memoryview(made)
    with made:
        with pytest.raises(ValueError, match="once"):
            made.__enter__()
        with pytest.raises((ValueError, IndexError)):
            made[:5] = b"too long"
        with pytest.raises(IndexError):
            made[LONG] = 1
    with pytest.raises(ValueError, match="once"), made:
        pass
    for wrong, name in ((dict(length="1"), "length"), (dict(index="1"), "index"), (dict(oid="x"), "oid")):
        with pytest.raises((TypeError, ValueError), match=name):
            pool.writing(**{**dict(oid=OID, index=0, length=10), **wrong})
    for length in (0, -1, 16 * MIB + 1, 1 << 64):
        with pytest.raises((ValueError, OverflowError), match="length"):
            pool.writing(OID, 0, length)
    with pytest.raises(TypeError):
        pickle.dumps(made)
    with pytest.raises(TypeError):
        engine.Writing()


ENDS = ["abort", "abort-twice", "raise", "never-entered", "dropped", "kept-slice", "kept-array"]


@pytest.mark.parametrize("pam", ["raw", "lz4", "dedup", "python"])
@pytest.mark.parametrize("how", ENDS)
def test_what_ends_otherwise_leaves_what_was_there(make_arena, pam, how):
    eng = make_arena(capacity="4MiB", page_size=4 * KIB, max_pinned="3MiB")
    if pam == "python":
        engine.register_pam("python", DictPam)
    pool = eng.new_pool("p", page_size="16MiB", **(dict(dedup=True) if pam == "dedup" else dict(pam=pam)))
    free = room(eng)
    for length in (100, 3000, 64 * KIB, LONG, 2 * MIB):
        old = page(1, LONG)
        assert pool.put(OID, 0, old)
        made = pool.writing(OID, 0, length)
        if how.startswith("abort"):
            with made:
                made[:] = NOISE[:1] * length
                made.abort()
                if how == "abort-twice":
                    made.abort()
                with pytest.raises(BufferError, match="inside"):
                    made[0] = 1
        elif how == "raise":
            with pytest.raises(KeyError), made:
                made[:] = NOISE[:1] * length
                raise KeyError
        elif how == "dropped":
            made.__enter__()[:] = NOISE[:1] * length
            del made
        elif how.startswith("kept"):
            with pytest.raises(BufferError, match="not put"), made:
                part = made[10:20] if how == "kept-slice" else memoryview(made).cast("B")
            part[:] = bytes(len(part))            # nobody's memory but its own
            assert pool.get(OID, 0) == old
            sound(eng)
            del part
        assert pool.get(OID, 0) == old
        sound(eng, pages=1, pins=0, limbo=0)
        pool.flush_page(OID, 0)
    assert room(eng) == free


@pytest.mark.parametrize("who", ["self", "other"])
def test_a_page_given_up_is_memory_at_once(make_arena, who):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB, max_pinned="12MiB")
    pool = eng.new_pool("p", page_size="16MiB")
    with engine.attach(eng.name) as other:
        theirs = pool if who == "self" else other.pool("p")
        for n in range(4):
            assert pool.put(OID, n, page(n, LONG))
        made = pool.writing(OID, 9, 11 * MIB).__enter__()
        made[:4] = b"half"
        made.abort()
        assert theirs.put(OID, 8, page(8, 7 * MIB) + page(9, 4 * MIB))
        assert eng.stats()["total"]["evicted"] == 0
        sound(eng, pages=5, pins=0)


def test_who_is_in_a_cycle_that_is_collected_is_let_go_of(make_arena):
    """A Writing, its pool and its engine, all at once garbage."""
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    eng.new_pool("p", page_size="1MiB")

    def begin():
        mine = engine.attach(eng.name)
        made = mine.pool("p").writing(OID, 0, LONG)
        knot = [made.__enter__(), memoryview(made)[5:], mine]
        knot.append(knot)

    begin()
    assert eng.stats()["arena"]["pinned_bytes"] >= LONG
    gc.collect()
    gc.collect()
    eng.recover()
    sound(eng, pages=0, pins=0, limbo=0)


def test_of_two_writers_the_last_to_leave_is_seen(pool):
    first, second = pool.writing(OID, 0, LONG), pool.writing(OID, 0, LONG + 1)
    with first:
        first[:] = page(1, LONG)
        with second:
            second[:] = page(2, LONG + 1)
        assert pool.get(OID, 0) == page(2, LONG + 1)
    assert pool.get(OID, 0) == page(1, LONG)


def test_many_at_once_that_end_in_any_order(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB, max_pinned="12MiB")
    pool = eng.new_pool("p", persistent=True, page_size="16MiB")
    free = room(eng)
    rnd = random.Random(5)
    for _ in range(5):
        made = [pool.writing(OID, n, rnd.choice([10, 5000, LONG])) for n in range(12)]
        for n, one in enumerate(made):
            one.__enter__()[:] = page(n, len(one))
        sound(eng, pins=12)
        kept = set(rnd.sample(range(12), 6))
        for n in rnd.sample(range(12), 12):
            if n in kept:
                made[n].__exit__(None, None, None)
            else:
                made[n].abort()
            sound(eng)
        assert {n for n in range(12) if pool.get(OID, n) is not None} == kept
        assert all(pool.get(OID, n) == page(n, len(made[n])) for n in kept)
        pool.flush_object(OID)
        sound(eng, pages=0, pins=0, limbo=0)
        assert room(eng) == free


def test_too_much_pinned_and_no_room(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB, max_pinned="2MiB")
    pool = eng.new_pool("p", persistent=True, page_size="16MiB")
    assert pool.put(OID, 0, page(0, MIB))
    with pool.writing(OID, 1, MIB) as one:
        one[:] = page(1, MIB)
        with pytest.raises(engine.TooMuchPinned, match="max_pinned"), pool.writing(OID, 2, 2 * MIB):
            raise AssertionError("not so much")
    assert pool.get(OID, 1) == page(1, MIB) and pool.get(OID, 2) is None
    n = 3
    while pool.put(OID, n, page(n, MIB)):
        n += 1
    with pytest.raises(engine.ArenaFull, match="stays"), pool.writing(OID, 0, MIB + 500_000):
        raise AssertionError("no room")
    assert pool.get(OID, 0) == page(0, MIB) and issubclass(engine.ArenaFull, engine.TmemError)
    sound(eng, pins=0, limbo=0)


def test_the_pool_or_the_arena_goes_meanwhile(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    pool = eng.new_pool("p", page_size="1MiB")
    with pytest.raises(engine.PoolDestroyed), pool.writing(OID, 0, LONG) as buffer:
        buffer[:] = page(0, LONG)
        pool.destroy()
    sound(eng, pages=0, pins=0, limbo=0)
    pool = eng.new_pool("p", page_size="1MiB")
    with engine.attach(eng.name) as other:
        theirs = other.pool("p")
        made = theirs.writing(OID, 0, LONG)
        made.__enter__()[:] = page(0, LONG)
        with pytest.raises(BufferError, match="before closing"):
            other.close()
        made.abort()
    assert pool.get(OID, 0) is None
    sound(eng, pages=0, pins=0, limbo=0)


def test_a_repair_meanwhile(make_arena):
    """It leaves the page where it is, and what is written into it harms nobody; it may be put, or
    TmemError says that it was not."""
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    pool = eng.new_pool("p", persistent=True, page_size="1MiB")
    assert pool.put(OID, 1, page(1, LONG))
    try:
        with pool.writing(OID, 0, LONG) as buffer:
            report = eng.check(repair=True)
            assert not report.problems, [str(one) for one in report.problems]
            for n in range(2, 20):
                assert pool.put(OID, n, page(n, LONG))
            buffer[:] = page(0, LONG)
        assert pool.get(OID, 0) == page(0, LONG)
    except engine.TmemError as error:
        assert "repaired" in str(error) and pool.get(OID, 0) is None
    assert all(pool.get(OID, n) == page(n, LONG) for n in range(1, 20))
    sound(eng, pins=0, limbo=0)


def test_a_resize_and_others_meanwhile(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    pool = eng.new_pool("p", page_size="1MiB")
    for n in range(60):
        assert pool.put(OID, n, page(n, LONG))
    with pool.writing(OID, 99, LONG) as buffer:
        eng.resize("2MiB")
        for n in range(40):
            pool.put(OID, n, page(n, LONG))
        buffer[:] = page(99, LONG)
        sound(eng, pins=1)
    assert pool.get(OID, 99) == page(99, LONG)
    assert eng.resize("16MiB") == 16 * MIB
    sound(eng, pins=0, limbo=0)


def test_a_fork_in_the_middle(make_arena):
    """The page is the parent's: the child can neither put it nor give it up."""
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    pool = eng.new_pool("p", page_size="1MiB")
    with pool.writing(OID, 0, LONG) as buffer:

        def child():
            with pytest.raises(engine.TmemError, match="fork"):
                buffer.__exit__(None, None, None)
            assert pool.put(OID, 1, page(1, LONG))
            eng.close()
            os._exit(0)

        assert os.waitpid(fork(child), 0)[1] == 0
        sound(eng, pins=1)
        buffer[:] = page(0, LONG)
    assert pool.get(OID, 0) == page(0, LONG) and pool.get(OID, 1) == page(1, LONG)
    sound(eng, pins=0, pages=2, limbo=0)


def test_a_worker_that_dies_at_it(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB, max_pinned="12MiB")
    pool = eng.new_pool("p", persistent=True, page_size="16MiB")
    free = room(eng)
    assert pool.put(OID, 0, page(0, LONG))

    def child():
        mine = engine.attach(eng.name).pool("p")
        for n in range(3):
            mine.writing(OID, n, 2 * MIB).__enter__()[:] = page(9, 2 * MIB)
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(fork(child), 0)
    eng.recover()
    sound(eng, pages=1, pins=0, limbo=0)
    assert pool.flush_page(OID, 0) and room(eng) == free


def test_threads(make_arena):
    eng = make_arena(capacity="16MiB", page_size=4 * KIB)
    pool = eng.new_pool("p", page_size="1MiB")
    wrong = []

    def work(me):
        rnd = random.Random(me)
        for _ in range(60):
            n, length = rnd.randrange(8), rnd.choice([2000, 70_000, LONG])
            if rnd.random() < 0.5:
                write(pool, n, page(n, length))
            else:
                pool.put(OID, n, page(n, length))
            found = pool.get(OID, n)
            if found is not None and found != page(n, len(found)):
                wrong.append((n, len(found)))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    sound(eng, pins=0, limbo=0)
