"""Owns the contract of batches: many pages in one call, each as the single verbs answer for it; bad
arguments change nothing."""
import collections
import random
import signal
import threading

import pytest

import engine
from tests.support import KINDS, CountingHost, DictPam, ModelPool, mixed, page

OID = (1, 2, 3)
PAGE = 512


class RemotePam(DictPam):
    def is_remote(self, pampd):
        return True


PAMS = {
    "raw": {},
    "lz4": dict(pam="lz4"),
    "zstd": dict(pam="zstd"),
    "dedup": dict(dedup=True),
    "lz4-dedup": dict(pam="lz4", dedup=True),
    "dict": dict(pam="dict"),
    "remote": dict(pam="remote"),
}


@pytest.fixture(
    params=[(kind, pam) for kind in KINDS for pam in PAMS if kind.startswith("ephemeral") or "dedup" not in pam],
    ids="-".join,
)
def pool(request, eng):
    kind, pam = request.param
    engine.register_pam("dict", DictPam)
    engine.register_pam("remote", RemotePam)
    return eng.new_pool("p", **KINDS[kind], **PAMS[pam])


@pytest.mark.parametrize("via", ["pool", "object"])
def test_as_the_single_calls(pool, via):
    """In pages of all kinds and buffers of some, against the dictionary."""
    model = ModelPool(pool.persistent, pool.shared, PAGE)
    rnd = random.Random(5)
    for _turn in range(12):
        n = rnd.choice((0, 1, 7, 255, 256, 257, 700))
        oid = (rnd.randrange(3), 0, 0)
        handles = [(oid if via == "object" else (rnd.randrange(9), 0, 0), rnd.randrange(400)) for _ in range(n)]
        pages = [
            rnd.choice((bytes, bytearray, memoryview))(mixed(rnd.randrange(40), rnd.randrange(1, PAGE + 1)))
            for _ in range(n)
        ]
        if via == "pool":
            assert pool.put_many(handles, pages) == [
                model.put(*handle, data) for handle, data in zip(handles, pages, strict=True)
            ]
        else:
            told = pool.object(oid).put_many([index for _, index in handles], pages)
            assert told == [model.put(*handle, data) for handle, data in zip(handles, pages, strict=True)]
        for free in (False, None, True):
            asked = rnd.sample(handles, n // 3) + [(oid, 401)]
            wanted = [model.get(*handle, free) for handle in asked]
            if via == "pool":
                assert pool.get_many(asked, free=free) == wanted
            else:
                assert pool.object(oid).get_many(tuple(index for _, index in asked), free) == wanted
    assert pool.obj_count == model.obj_count
    assert pool.engine.check().ok


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 700])
def test_pages_come_back_in_order(eng, pool, count):
    handles = [((n % 5, n % 2, 0), n * 7) for n in range(count)]
    pages = [mixed(n % 40, 1 + n * 13 % PAGE) for n in range(count)]
    assert pool.put_many(handles, pages) == [True] * count
    found = pool.get_many(handles, free=False)
    assert found == pages and all(type(data) is bytes for data in found)
    mixed_up = random.Random(count).sample(handles, count)
    assert pool.get_many([*mixed_up, ((9, 9, 9), 0)]) == [pages[index // 7] for _, index in mixed_up] + [None]
    leaves = not pool.persistent and not pool.shared
    assert pool.get_many(handles) == ([None] * count if leaves else pages)
    assert pool.get_many(handles, free=True) == ([None] * count if leaves else pages)
    assert pool.obj_count == 0 and eng.check().ok


def test_one_object(pool):
    thing = pool.object(OID)
    assert thing.put_many(range(10), [page(n) for n in range(10)]) == [True] * 10
    assert thing.get_many([3, 2, 99, 2**64 - 1], free=False) == [page(3), page(2), None, None]
    assert thing.get_many((5,), True) == [page(5)] and thing.get_many([5]) == [None]
    assert pool.get(OID, 4, free=False) == page(4) and pool.object_info(OID)[0] == 9


def test_one_handle_many_times(pool):
    """Page after page: the last one put stays, and the first one got is the one that leaves."""
    assert pool.put_many([(OID, 5)] * 300, [page(n) for n in range(300)]) == [True] * 300
    assert pool.get_many([(OID, 5)] * 3, free=True) == [page(299), None, None]


def test_counts_are_of_pages(eng):
    pool = eng.new_pool("p", persistent=True)
    pool.put_many([(OID, 1), (OID, 2), (OID, 1)], [b"a", b"b", b"c"])
    pool.get_many([(OID, 1), (OID, 2), (OID, 3)])
    counts = eng.stats()["pools"]["p"]
    assert [counts[key] for key in ("puts_ok", "puts_duplicate", "gets_hit", "gets_miss", "pages")] == [3, 1, 2, 1, 2]


@pytest.mark.parametrize("of", [list, tuple, collections.deque])
def test_any_sequence_will_do(eng, of):
    pool = eng.new_pool("p")
    assert pool.put_many(of([[list(OID), 1], (OID, 2)]), of([b"a", bytearray(b"b")])) == [True, True]
    assert pool.get_many(of([(OID, 1), [OID, 2]])) == [b"a", b"b"]
    assert pool.object(OID).get_many(range(1, 3)) == [b"a", b"b"]


@pytest.mark.parametrize("pam", ["raw", "lz4", "zstd"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_range_into_a_buffer(make_arena, kind, pam):
    pool = make_arena(capacity="32MiB", page_size=PAGE).new_pool("p", pam=pam, **KINDS[kind])
    for count in (1, 2, 30, 1000):
        data = b"".join(mixed(n, PAGE) for n in range(count - 1)) + mixed(9, 100)
        assert pool.put_range((count, 0, 0), 5, data)
        for short in (0, 1, len(data) - 1):
            with pytest.raises(ValueError, match="buffer"):
                pool.get_range_into((count, 0, 0), 5, count, bytearray(short))
        buffer = bytearray(len(data) + 9)
        assert pool.get_range_into((count, 0, 0), 5, count + 1, buffer) == -1
        assert pool.object((count, 0, 0)).get_range_into(5, count, buffer, free=False) == len(
            data
        ) and buffer == data + bytes(9)
        assert (
            pool.get_range_into((count, 0, 0), 5, count, memoryview(buffer)[3:], free=True) == len(data)
            and buffer[3:-6] == data
        )
        assert pool.get_range_into((count, 0, 0), 5, count, buffer) == -1
    assert pool.engine.check().ok


# --- refusals -------------------------------------------------------------------------------------


def test_a_refusal_does_not_hold_up_the_others(make_arena):
    eng = make_arena(capacity="1MiB", max_workers=2)
    pool = eng.new_pool("p", persistent=True)
    handles = [(OID, n) for n in range(3000)]
    pages = [page(n, PAGE) for n in range(3000)]
    answers = pool.put_many(handles, pages)
    full = answers.index(False)
    assert 500 < full < 3000 and pool.get_many(handles) == [
        data if ok else None for data, ok in zip(pages, answers, strict=True)
    ]
    # Over pages that are there it goes on, and what is refused is gone.
    assert pool.put_many([(OID, 2999), (OID, 0), (OID, 2998)], [page(1, PAGE), page(77, PAGE), page(2, PAGE)]) == [
        False,
        True,
        False,
    ]
    assert pool.get(OID, 0) == page(77, PAGE) and eng.check().ok


def test_pages_make_room_for_each_other(make_arena):
    eng = make_arena(capacity="1MiB", max_workers=2)
    pool = eng.new_pool("p")
    handles = [(OID, n) for n in range(5000)]
    pages = [b"%d/" % n + page(n, 500) for n in range(5000)]
    assert pool.put_many(handles, pages) == [True] * 5000
    found = pool.get_many(handles)
    there = [n for n, data in enumerate(found) if data is not None]
    assert 500 < len(there) < 3000 and all(found[n] == pages[n] for n in there) and eng.check().ok


def test_a_frozen_client_may_only_replace(eng):
    pool = eng.new_pool("p", client=4)
    pool.put(OID, 1, b"old")
    eng.client(4).freeze()
    assert pool.put_many([(OID, 0), (OID, 1), (OID, 2)], [b"a", b"b", b"c"]) == [False, True, False]
    assert pool.get_many([(OID, 0), (OID, 1), (OID, 2)]) == [None, b"b", None]


def test_a_back_end_that_refuses_and_one_that_raises(eng):
    pam = DictPam(capacity=2)
    engine.register_pam("dict", lambda: pam)
    pool = eng.new_pool("p", persistent=True, pam="dict")
    handles = [(OID, n) for n in range(4)]
    assert pool.put_many(handles, [b"a", b"b", b"c", b"d"]) == [True, True, False, False]

    class Full(Exception):
        pass

    def create(pool_id, oid, index, data):
        if index == 2:
            raise Full
        return DictPam.create(pam, pool_id, oid, index, data)

    pam.create, pam.capacity = create, None
    with pytest.raises(Full):
        pool.put_many(handles, [b"e", b"f", b"g", b"h"])
    del pam.create
    assert pool.get_many(handles) == [b"e", b"f", None, None] and eng.check().ok


def test_a_back_end_that_raises_in_a_get(eng):
    pam = DictPam()
    engine.register_pam("dict", lambda: pam)
    pool = eng.new_pool("p", persistent=True, pam="dict")
    handles = [(OID, n) for n in range(3)]
    pool.put_many(handles, [b"a", b"b", b"c"])
    pam.get_data = lambda pool_id, oid, index, pampd: 1 / 0 if index == 1 else b"x"
    with pytest.raises(ZeroDivisionError):
        pool.get_many(handles)
    del pam.get_data
    assert pool.get_many(handles) == [b"a", b"b", b"c"]


def test_a_host_that_counts(eng):
    host = CountingHost()
    engine.register_hostops(host)
    pool = eng.new_pool("p", persistent=True)
    handles = [((n % 3, 0, 0), n * 64) for n in range(100)]
    host.refuse_objnode = 20
    assert pool.put_many(handles, [page(n) for n in range(100)]).count(False) == host.refused == 1
    assert host.objects == 3 and host.objnodes == sum(pool.object_info((n, 0, 0))[1] for n in range(3))
    pool.get_many(handles, free=True)
    assert (host.objects, host.objnodes) == (0, 0)


def test_a_destroyed_pool_and_a_closed_engine(make_arena):
    eng = make_arena()
    pool = eng.new_pool("p")
    pool.destroy()
    with pytest.raises(engine.PoolDestroyed):
        pool.put_many([(OID, 0)], [b"x"])
    with pytest.raises(engine.PoolDestroyed):
        pool.get_many([(OID, 0)])
    eng.close()
    with pytest.raises(engine.TmemError, match="closed"):
        pool.get_many([(OID, 0)])


# --- arguments ------------------------------------------------------------------------------------

GOOD = (OID, 7)
BAD_HANDLES = [
    (TypeError, 5),
    (TypeError, None),
    (TypeError, "ab"),
    (TypeError, {GOOD: 1}),
    (TypeError, {GOOD}),
    (TypeError, iter([GOOD])),
    (TypeError, [5]),
    (TypeError, ["ab"]),
    (TypeError, [None]),
    (ValueError, [(OID,)]),
    (ValueError, [(OID, 1, 2)]),
    (ValueError, [()]),
    (TypeError, [(5, 5)]),
    (TypeError, [((1, 2, "3"), 5)]),
    (ValueError, [((1, 2), 5)]),
    (ValueError, [((1, 2, -3), 5)]),
    (TypeError, [(OID, None)]),
    (TypeError, [(OID, 1.0)]),
    (ValueError, [(OID, -1)]),
    (ValueError, [(OID, 2**64)]),
]
BAD_PAGES = [
    (TypeError, 5),
    (TypeError, None),
    (TypeError, "x"),
    (TypeError, {b"x"}),
    (TypeError, iter([b"x"])),
    (TypeError, [5]),
    (TypeError, ["x"]),
    (TypeError, [None]),
    (ValueError, [bytes(PAGE + 1)]),
    (ValueError, [memoryview(bytes(8))[::2]]),
    (TypeError, b"x"),
]


def at_a_place(bad):
    """The bad thing alone, and behind 300 good ones, with the place that the error names."""
    yield bad, 0
    if isinstance(bad, list):
        yield bad, 300


@pytest.fixture
def untouched(eng):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put(OID, 7, b"untouched")
    yield pool
    assert pool.get(OID, 7) == b"untouched" and pool.obj_count == 1 and pool.object_info(OID)[0] == 1
    counts = eng.stats()["pools"]["p"]
    assert (counts["puts_ok"], counts["puts_refused"]) == (1, 0)


@pytest.mark.parametrize(("error", "bad"), BAD_HANDLES)
def test_bad_handles(untouched, error, bad):
    for given, n in at_a_place(bad):
        handles = [GOOD] * n + given if n else given
        name = rf"^handles\[{n}\]: " if isinstance(bad, list) else "^handles: "
        for call in (
            lambda: untouched.put_many(handles, [b"x"] * (n + 1)),
            lambda: untouched.get_many(handles, free=True),
        ):
            with pytest.raises(error, match=name):
                call()


@pytest.mark.parametrize(
    ("error", "bad"),
    [
        (TypeError, 5),
        (TypeError, [None]),
        (TypeError, [(OID, 1)]),
        (ValueError, [-1]),
        (ValueError, [2**64]),
        (TypeError, iter([1])),
    ],
)
def test_bad_indexes(untouched, error, bad):
    thing = untouched.object(OID)
    for given, n in at_a_place(bad):
        indexes = [7] * n + given if n else given
        name = rf"^indexes\[{n}\]: " if isinstance(bad, list) else "^indexes: "
        for call in (lambda: thing.put_many(indexes, [b"x"] * (n + 1)), lambda: thing.get_many(indexes, free=True)):
            with pytest.raises(error, match=name):
                call()


@pytest.mark.parametrize(("error", "bad"), BAD_PAGES)
def test_bad_pages(untouched, error, bad):
    for given, n in at_a_place(bad):
        pages = [b"x"] * n + given if n else given
        name = rf"^pages\[{n}\]: " if isinstance(bad, (list, bytes)) else "^pages: "
        for call in (
            lambda: untouched.put_many([GOOD] * (n + 1), pages),
            lambda: untouched.object(OID).put_many([7] * (n + 1), pages),
        ):
            with pytest.raises(error, match=name):
                call()


def test_other_bad_arguments(untouched):
    with pytest.raises(ValueError, match="^pages: as many as handles, 2, not 1"):
        untouched.put_many([GOOD, GOOD], [b"x"])
    with pytest.raises(ValueError, match="^pages: as many as indexes, 1, not 2"):
        untouched.object(OID).put_many([7], [b"x", b"y"])
    for free in (0, 1, "yes"):
        with pytest.raises(TypeError, match="^free: "):
            untouched.get_many([GOOD], free)


# --- signals and threads --------------------------------------------------------------------------


def test_a_signal_handler_runs_in_the_middle_and_may_end_it(eng):
    """The timer counts the time this process computes, which it does all of in the one call."""
    pool = eng.new_pool("p", persistent=True)
    handles = [(OID, n % 1000) for n in range(500_000)]
    pages = [b"page"] * len(handles)
    seen = []

    class Enough(Exception):
        pass

    def handler(*_):
        seen.append(eng.stats()["pools"]["p"]["puts_ok"])
        if len(seen) == 2:
            raise Enough

    before = signal.signal(signal.SIGPROF, handler)
    try:
        with pytest.raises(Enough):
            signal.setitimer(signal.ITIMER_PROF, 0.01, 0.01)
            pool.put_many(handles, pages)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    # A ring that comes while the handler counts is heard at the same place.
    assert 0 <= seen[0] <= seen[1] < len(handles)
    assert eng.stats()["pools"]["p"]["puts_ok"] == seen[1] and seen[1] % 256 == 0
    assert pool.get_many(handles[:2]) == [b"page"] * 2 and eng.check().ok


def test_another_thread_has_a_turn_in_the_middle(make_arena):
    eng = make_arena(capacity="64MiB")
    pool = eng.new_pool("p", persistent=True)
    handles = [(OID, n % 1000) for n in range(1_000_000)] + [(OID, 1000)]
    pages = [b"page"] * len(handles)
    started = threading.Event()

    def work():
        started.set()
        pool.put_many(handles, pages)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    early = pool.get(OID, 1000)
    thread.join()
    assert early is None and pool.get(OID, 1000) == b"page"


def test_what_happens_to_the_arguments_meanwhile_does_not_matter(eng):
    """A back end changes the lists, and a buffer is not to be resized."""
    pam = DictPam()
    engine.register_pam("dict", lambda: pam)
    pool = eng.new_pool("p", persistent=True, pam="dict")
    handles, pages = [(OID, n) for n in range(5)], [bytearray(b"%d" % n) for n in range(5)]
    last = pages[4]

    def create(pool_id, oid, index, data):
        handles.clear()
        pages.clear()
        with pytest.raises(BufferError):
            last.append(0)
        return DictPam.create(pam, pool_id, oid, index, data)

    pam.create = create
    assert pool.put_many(handles, pages) == [True] * 5
    last.append(0)
    assert pool.get_many([(OID, n) for n in range(5)]) == [b"%d" % n for n in range(5)]
