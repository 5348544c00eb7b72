"""Owns the contract of the verbs of an object as one value: what is put is there whole, with its
key and word, under its condition, and until it expires."""
import datetime
import math
import os
import struct
import threading

import numpy
import pytest

import engine
from tests.support import mixed

OID = (1, 2, 3)
SIZES = (0, 1, 8, 16, 63, 64, 100, 511, 512, 513, 4096, 5000, 65535, 65536, 65537, 300_000)
KINDS = {
    "raw": {}, "persistent": {"persistent": True}, "shared": {"shared": True}, "dedup": {"dedup": True},
    "lz4": {"pam": "lz4"}, "zstd": {"pam": "zstd", "persistent": True},
}
MODULES = {"lz4": "lz4.block", "zstd": "zstandard"}


@pytest.fixture(params=KINDS)
def pool(request, make_arena):
    if request.param in MODULES:
        pytest.importorskip(MODULES[request.param])
    eng = make_arena(capacity="8MiB", page_size=512)
    yield eng.new_pool("p", **KINDS[request.param])
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:3]]


def text(length):
    """Bytes that follow from their number, noise and text."""
    return mixed(4 * length + 3, length)


def ahead(eng, seconds):
    """Let the clock of this process run ahead of all others'."""
    eng.set_clock_ahead(seconds)


@pytest.mark.parametrize("length", SIZES)
def test_a_value_is_there_whole_however_it_is_read(pool, length):
    for key in (None, b"", b"a key " * 5):
        for word in (None, 0, 2**64 - 1):
            data = text(length)
            assert pool.put_object(OID, data, key=key, word=word) is True
            assert pool.get_object(OID) == data
            got, info = pool.get_object(OID, info=True)
            assert got == data and info[:4] == (OID, key, length, word)
            assert info.expires is None and 0 <= info.hits <= 3
            room = bytearray(length + 3)
            assert pool.get_object_into(OID, room) == length and room[:length] == data
            with pool.view_object(OID) as view:
                assert view == data and view.readonly and view.contiguous
            assert pool.get(OID, 0, free=False) == data and pool.get_range(OID, 0, 1, free=False) == data
            assert pool.object_info(OID) == (1, 0, 0)


def test_no_tail_of_a_longer_value_stays(pool):
    assert pool.put_range(OID, 0, text(9000))
    assert pool.get_object(OID) == text(9000)
    assert pool.put_object(OID, b"short") and pool.get_object(OID) == b"short"
    assert pool.object_info(OID) == (1, 0, 0) and pool.get(OID, 1) is None
    assert pool.put(OID, 2**60, b"far") and pool.put_object(OID, text(600))
    assert pool.get_object(OID) == text(600) and pool.object_info(OID) == (1, 0, 0)
    assert pool.flush_page(OID, 0) and pool.put(OID, 7, b"not at 0") and pool.put_object(OID, b"again")
    assert pool.get_object(OID) == b"again"
    pool.flush_object(OID)
    assert pool.get_object(OID) is None and pool.obj_count == 0


def test_pages_that_are_no_value_are_not_made_up(pool):
    assert pool.put(OID, 1, b"behind nothing")
    for call in (pool.get_object, lambda oid: pool.get_object_into(oid, bytearray(100)), pool.view_object):
        with pytest.raises(engine.TmemError, match="do not lie at 0"):
            call(OID)
    assert pool.put(OID, 0, b"first, ")
    assert pool.get_object(OID) == b"first, behind nothing" and pool.has(OID)


def test_pieces_are_joined(pool):
    pieces = [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), b"", numpy.arange(5, dtype="<u2")]
    whole = b"".join(map(bytes, pieces))
    for data in (pieces, tuple(pieces)):
        assert pool.put_object(OID, data, key=b"k", word=1) and pool.get_object(OID) == whole
    assert pool.put_object(OID, []) and pool.get_object(OID) == b""
    assert pool.put_object(OID, [b""], key=b"k") and pool.get_object(OID, info=True)[1].key == b"k"


def test_a_condition_is_kept(pool):
    assert pool.put_object(OID, b"x", if_version=5) is engine.CONFLICT and not pool.has(OID)
    assert pool.put_object(OID, b"first", if_absent=True) is True
    assert pool.put_object(OID, b"no", if_absent=True) is engine.CONFLICT
    version = pool.get_object(OID, info=True)[1].version
    assert pool.put_object(OID, text(700), if_version=version) is True
    assert pool.put_object(OID, b"no", if_version=version) is engine.CONFLICT
    assert pool.get_object(OID) == text(700)
    version = pool.get_object(OID, info=True)[1].version
    assert pool.flush_object(OID, if_version=version + 1) is engine.CONFLICT
    assert pool.flush_object(OID, if_version=version) is True
    assert pool.flush_object(OID, if_version=version) is False
    assert pool.put_object(OID, b"again", if_version=0) is True
    assert pool.put_object(OID, b"no", if_version=0) is engine.CONFLICT and pool.get_object(OID) == b"again"
    counts = pool.engine.stats()["pools"]["p"]
    assert counts["puts_refused"] == 0


def test_a_conflict_tells_itself_apart():
    assert not engine.CONFLICT and engine.CONFLICT is not False and repr(engine.CONFLICT) == "engine.CONFLICT"
    with pytest.raises(TypeError):
        type(engine.CONFLICT)()


def test_another_key_in_its_place_is_nothing(pool):
    """Of two keys whose hashes are the same, the later one has the place."""
    if pool.pam != "raw":
        pytest.skip("a compressed page does not show its key to who holds the lock")
    assert pool.put_object(OID, text(100), key=b"one", if_absent=True)
    assert pool.put_object(OID, text(100), key=b"one", if_absent=True) is engine.CONFLICT
    assert pool.put_object(OID, text(90), key=b"two", if_absent=True) is True
    assert pool.get_object(OID, info=True)[1].key == b"two"
    assert pool.incr(OID, key=b"three") == 1 and pool.incr(OID, key=b"three") == 2
    with pytest.raises(KeyError):
        pool.incr(OID, initial=None, key=b"four")


def test_an_expired_object_is_a_miss_everywhere(pool):
    eng = pool.engine
    assert pool.put_object(OID, text(900), ttl=10, key=b"k")
    assert 9 < pool.expires(OID) <= 10 and 9 < pool.get_object(OID, info=True)[1].expires <= 10
    ahead(eng, 9)
    assert pool.get_object(OID) == text(900) and 0 < pool.expires(OID) <= 1
    assert pool.touch(OID, 20)
    ahead(eng, 25)
    assert pool.get_object(OID) == text(900)
    ahead(eng, 31)
    assert pool.get_object(OID) is None and pool.get_object(OID, info=True) is None and not pool.has(OID)
    assert pool.get(OID, 0) is None and pool.get_range(OID, 0, 1) is None and not pool.view(OID, 0).found
    assert not pool.view_object(OID).found and pool.object_info(OID) is None and pool.descriptor(OID, 0) is None
    assert pool.get_object_into(OID, bytearray(1000)) is None and not pool.touch(OID, 5)
    assert not pool.flush_page(OID, 0) and pool.get_many([(OID, 0)]) == [None]
    with pytest.raises(KeyError):
        pool.expires(OID)
    with pytest.raises(KeyError):
        pool.incr(OID, initial=None)
    assert pool.put_object(OID, b"new", if_absent=True) is True and pool.expires(OID) is None


@pytest.mark.parametrize("act", ["put", "put_range", "flush_object", "incr", "put_object"])
def test_what_comes_after_an_expired_object_is_new(pool, act):
    assert pool.put_range(OID, 0, text(3000)) and pool.touch(OID, 1)
    ahead(pool.engine, 2)
    if act == "flush_object":
        assert not pool.flush_object(OID)
        ahead(pool.engine, 0)
        assert not pool.has(OID)
        return
    {"put": lambda: pool.put(OID, 0, b"x"), "put_range": lambda: pool.put_range(OID, 0, b"x"),
     "incr": lambda: pool.incr(OID), "put_object": lambda: pool.put_object(OID, b"x")}[act]()
    ahead(pool.engine, 0)
    assert pool.object_info(OID) == (1, 0, 0) and pool.expires(OID) is None and pool.obj_count == 1


def test_touch_dates_and_undates(pool):
    assert not pool.touch(OID, 5)
    assert pool.put(OID, 3, b"a page") and pool.touch(OID, datetime.timedelta(minutes=1))
    assert 59 < pool.expires(OID) <= 60
    assert pool.put(OID, 4, b"another") and 59 < pool.expires(OID) <= 60
    assert pool.touch(OID, None) and pool.expires(OID) is None
    for ever in (math.inf, 10**400, 1e300):
        assert pool.touch(OID, ever) and pool.expires(OID) is None
    assert pool.touch(OID, numpy.float32(8)) and 7 < pool.expires(OID) <= 8
    assert pool.touch(OID, 0) and not pool.has(OID) and not pool.touch(OID, 0)


def test_what_lives_for_no_time_is_gone_at_once(pool):
    assert pool.put_object(OID, b"old")
    assert pool.put_object(OID, b"new", ttl=0, if_absent=True) is engine.CONFLICT and pool.get_object(OID) == b"old"
    assert pool.put_object(OID, b"new", ttl=-1) is True and not pool.has(OID)
    assert pool.incr(OID, 3, ttl=0) == 3 and not pool.has(OID)
    with pool.writing_object(OID, 4, ttl=0) as page:
        memoryview(page)[:] = b"gone"
    assert not pool.has(OID)


def test_a_put_dates_anew(pool):
    assert pool.put_object(OID, b"x", ttl=5) and pool.put_object(OID, b"y") and pool.expires(OID) is None
    assert pool.put_object(OID, b"z", ttl=50) and 49 < pool.expires(OID) <= 50
    assert pool.put_object(OID, text(600), ttl=70) and 69 < pool.expires(OID) <= 70


def test_counting(pool):
    assert pool.incr(OID) == 1 and pool.incr(OID, 10) == 11 and pool.incr(OID, -20) == -9
    assert pool.get_object(OID) == struct.pack("<q", -9)
    assert pool.incr((4, 5, 6), 2, initial=40, ttl=9, word=7, key=b"k") == 42
    assert pool.incr((4, 5, 6), 1, initial=100, ttl=90, word=8, key=b"k") == 43
    data, info = pool.get_object((4, 5, 6), info=True)
    assert data == struct.pack("<q", 43) and info.word == 7 and info.key == b"k" and 8 < info.expires <= 9
    assert pool.put_object(OID, struct.pack("<q", 2**63 - 2)) and pool.incr(OID) == 2**63 - 1
    with pytest.raises(OverflowError):
        pool.incr(OID)
    assert pool.incr(OID, -(2**63)) == -1 and pool.incr(OID, 1 - 2**63) == -(2**63)
    with pytest.raises(OverflowError):
        pool.incr(OID, -1)
    with pytest.raises(OverflowError):
        pool.incr((9, 9, 9), 1, initial=2**63 - 1)
    for other in (b"", b"1234567", b"123456789", text(900)):
        assert pool.put_object(OID, other)
        with pytest.raises(TypeError, match="8 bytes"):
            pool.incr(OID)
        assert pool.get_object(OID) == other
    pool.flush_object(OID)
    with pytest.raises(KeyError):
        pool.incr(OID, initial=None)
    assert not pool.has(OID)


def test_a_count_that_is_viewed_does_not_change_under_the_view(pool):
    assert pool.incr(OID, 5, ttl=100, key=b"k", word=9) == 5
    with pool.view_object(OID) as view:
        assert pool.incr(OID, 1, key=b"k") == 6 and view == struct.pack("<q", 5)
        assert pool.get_object(OID) == struct.pack("<q", 6)
    info = pool.get_object(OID, info=True)[1]
    assert info.key == b"k" and info.word == 9 and 98 < info.expires <= 100
    assert pool.incr(OID, 1, key=b"k") == 7


def test_a_value_is_written_in_place(pool):
    for length in (0, 1, 600, 70_000):
        with pool.writing_object(OID, length, key=b"key", word=3, ttl=60) as page:
            assert len(page) == length
            memoryview(page)[:] = text(length)
        data, info = pool.get_object(OID, info=True)
        assert data == text(length) and info.key == b"key" and info.word == 3 and 59 < info.expires <= 60
    with pytest.raises(engine.Conflict), pool.writing_object(OID, 5, if_absent=True) as page:
        memoryview(page)[:] = b"never"
    with pytest.raises(ZeroDivisionError), pool.writing_object(OID, 5) as page:
        memoryview(page)[:] = b"never" if 1 // 0 else b""
    assert pool.get_object(OID) == text(70_000)
    with pool.writing_object(OID, 5, if_version=pool.get_object(OID, info=True)[1].version) as page:
        memoryview(page)[:] = b"taken"
    assert pool.get_object(OID) == b"taken"
    pool.put_range(OID, 0, text(5000))
    with pool.writing_object(OID, 3) as page:
        memoryview(page)[:] = b"one"
    assert pool.object_info(OID) == (1, 0, 0) and pool.get_object(OID) == b"one"


def test_a_value_that_is_written_for_long_lives_as_long(pool):
    """From when it was put, and not from when its writing began."""
    with pool.writing_object(OID, 4, ttl=60) as page:
        memoryview(page)[:] = b"slow"
        ahead(pool.engine, 100)
    assert pool.get_object(OID) == b"slow" and 58 < pool.expires(OID) <= 60


def test_a_value_in_a_full_arena(make_arena):
    """A put over a persistent value needs no memory; one that is refused leaves nothing, or the
    old."""
    eng = make_arena(capacity="1MiB", page_size=512)
    pool = eng.new_pool("p", persistent=True)
    n = 0
    while pool.put_object((n, 0, 0), mixed(4 * n + 2, 300), key=b"%d" % n):
        n += 1
    assert n > 1000
    for i in range(0, n, 97):
        more = {"key": b"%d" % i, "ttl": 50}
        assert pool.put_object((i, 0, 0), b"not put", if_absent=True, **more) is engine.CONFLICT
        assert pool.put_object((i, 0, 0), mixed(4 * i + 2, 280), **more) is True
        data, info = pool.get_object((i, 0, 0), info=True)
        assert data == mixed(4 * i + 2, 280) and info.key == b"%d" % i and 49 < info.expires <= 50
    assert not pool.put_object((1, 0, 0), text(60_000)) and pool.get_object((1, 0, 0)) is None
    assert pool.get_object((2, 0, 0)) == mixed(4 * 2 + 2, 300)
    assert eng.check().ok


def test_a_private_pool_keeps_what_is_got_as_a_value(make_arena):
    pool = make_arena().new_pool("p", shared=False)
    assert pool.put_object(OID, b"stays")
    assert pool.get_object(OID) == pool.get_object(OID) == b"stays" and pool.get(OID, 0) == b"stays"
    assert pool.get_object(OID) is None


def test_the_calls_of_an_object(pool):
    one = pool.object(OID)
    assert one.put_object(b"12345678", word=3, key=b"k", ttl=9) and one.get_object() == b"12345678"
    assert one.has() and 8 < one.expires() <= 9 and one.touch(None) and one.expires() is None
    assert one.incr(0) == int.from_bytes(b"12345678", "little") and one.get_object(info=True)[1].word == 3
    assert one.get_object_into(bytearray(8)) == 8
    with one.writing_object(2) as page:
        memoryview(page)[:] = b"ab"
    with one.view_object() as view:
        assert view == b"ab"
    assert one.flush_object(if_version=1) is engine.CONFLICT and one.flush_object()


BAD = [
    ("data", TypeError, {"data": "text"}), ("data", TypeError, {"data": None}), (r"data\[1\]", TypeError,
                                                                               {"data": [b"x", 5]}),
    ("data", ValueError, {"data": memoryview(bytes(8))[::2]}),
    ("ttl", TypeError, {"ttl": "soon"}), ("ttl", TypeError, {"ttl": []}), ("ttl", ValueError, {"ttl": math.nan}),
    ("if_absent", TypeError, {"if_absent": 1}), ("if_version", TypeError, {"if_version": "1"}),
    ("if_version", ValueError, {"if_version": -1}), ("if_absent", ValueError, {"if_absent": True, "if_version": 3}),
    ("word", TypeError, {"word": "x"}), ("word", ValueError, {"word": 2**64}), ("word", ValueError, {"word": -1}),
    ("key", TypeError, {"key": "text"}), ("key", ValueError, {"key": bytes(1048577)}),
]


@pytest.mark.parametrize(("name", "error", "bad"), BAD, ids=[f"{n} {bad[0]}" for n, bad in enumerate(BAD)])
def test_a_bad_argument_is_named(pool, name, error, bad):
    assert pool.put_object(OID, b"untouched", word=1)
    with pytest.raises(error, match=f"^{name}"):
        pool.put_object(OID, **{"data": b"x", **bad})
    if "data" not in bad:
        with pytest.raises(error, match=f"^{name}"):
            pool.writing_object(OID, 5, **bad)
    assert pool.get_object(OID) == b"untouched"


@pytest.mark.parametrize("bad", ["1", 1.5, None, 2**63, -(2**63) - 1])
def test_what_is_counted_by_is_an_int(pool, bad):
    for arguments in ({"delta": bad}, {"initial": bad} if bad is not None else {"delta": []}):
        with pytest.raises((TypeError, OverflowError), match="^(delta|initial)"):
            pool.incr(OID, **arguments)
    assert not pool.has(OID)
    assert pool.incr(OID, numpy.int8(-3), numpy.uint32(10)) == 7


def test_a_value_has_a_longest_length(make_arena):
    pool = make_arena(page_size=512).new_pool("p")
    with pytest.raises(ValueError, match="at most 1073741824 bytes"):
        pool.put_object(OID, [memoryview(bytearray(1 << 20))] * 1025)
    with pytest.raises(ValueError, match="at most 1073741824 bytes"):
        pool.writing_object(OID, (1 << 30) - 10, key=bytes(20))
    with pytest.raises(ValueError, match="at least as long as the"):
        pool.put_object(OID, b"four", key=b"k")
        pool.get_object_into(OID, bytearray(3))


def test_processes_count_exactly(make_arena):
    """Each of several processes adds many times; none of it is lost, and add lets one of them
    in."""
    eng = make_arena(capacity="4MiB", shards=2)
    pool = eng.new_pool("p", shared=True)
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                won = 0
                for n in range(2000):
                    pool.incr((n % 5, 0, 0), 1 + child, key=b"counter")
                    won += pool.put_object((n, 1, 0), b"%d" % child, if_absent=True) is True
                    while True:
                        data, info = pool.get_object((0, 2, 0), info=True) or (b"0", None)
                        new = b"%d" % (int(data) + 1)
                        if pool.put_object((0, 2, 0), new, if_version=info.version if info else 0) is True:
                            break
                pool.incr((0, 3, 0), won)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert sum(pool.incr((n, 0, 0), 0) for n in range(5)) == 2000 * (1 + 2 + 3 + 4)
    assert pool.incr((0, 3, 0), 0) == 2000 and pool.get_object((0, 2, 0)) == b"8000"
    assert eng.check().ok


def test_threads_see_whole_values(make_arena):
    """A reader sees value, key and word of one moment, whatever a writer makes of the object."""
    eng = make_arena(capacity="8MiB")
    pool = eng.new_pool("p", shared=True)
    stop = threading.Event()
    faults = []

    def write():
        for n in range(1500):
            length = (n * 7919) % 3000 + 70_000 * (n % 7 == 0)
            pool.put_object(OID, bytes([n % 251]) * length, key=b"%d" % n, word=n)
        stop.set()

    def read():
        while not stop.is_set():
            found = pool.get_object(OID, info=True)
            if found is None:
                continue
            data, info = found
            n = info.word
            if info.key != b"%d" % n or data != bytes([n % 251]) * ((n * 7919) % 3000 + 70_000 * (n % 7 == 0)):
                faults.append(info)
    threads = [threading.Thread(target=write), threading.Thread(target=read), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_a_value_among_pages_has_no_tail_of_its_own(pool):
    """What was put as pages is their bytes, whatever stands behind one of them."""
    assert pool.put_object(OID, text(512), key=b"a key", word=5) and pool.put(OID, 1, b"more")
    assert pool.get_object(OID) == text(512) + b"more"
    data, info = pool.get_object(OID, info=True)
    assert data == text(512) + b"more" and (info.key, info.word, info.length) == (None, None, 516)
    assert pool.get_object_into(OID, bytearray(600)) == 516
    with pool.view_object(OID) as view:
        assert view == text(512) + b"more"


def test_a_value_that_is_one_word_with_its_tail_has_it(pool):
    """The trailer of a key of 4 bytes, as that key, and as all of the value."""
    word = b"\x04\0\0\x40"
    assert pool.put_object(OID, word * 6, key=word)
    data, info = pool.get_object(OID, info=True)
    assert data == word * 6 and info.key == word and pool.get_object(OID) == word * 6
    with pool.writing_object(OID, 24, key=word) as page:
        memoryview(page)[:] = word * 6
    assert pool.get_object(OID, info=True)[1].key == word


def test_a_count_in_the_place_of_another_key_is_new(pool):
    """Also where it does not show to who holds the lock whose the value is."""
    assert pool.put_object(OID, b"text that compresses " * 30, key=b"one")
    with pytest.raises(KeyError):
        pool.incr(OID, initial=None, key=b"two")
    assert pool.incr(OID, 5, initial=10, key=b"two", word=3) == 15
    data, info = pool.get_object(OID, info=True)
    assert data == struct.pack("<q", 15) and info.key == b"two" and info.word == 3
    assert pool.put_object(OID, b"text that compresses " * 30)
    assert pool.incr(OID, 1, key=b"two") == 1 and pool.object_info(OID) == (1, 0, 0)


def test_what_lives_for_no_time_keeps_its_condition(pool):
    assert pool.put_object(OID, b"x", ttl=0, if_version=5) is engine.CONFLICT
    with pytest.raises(engine.Conflict), pool.writing_object(OID, 1, ttl=0, if_version=5):
        pass
    assert pool.put_object(OID, b"x", ttl=0, if_version=0) is True and not pool.has(OID)


def test_an_object_without_a_first_page_is_no_count(pool):
    assert pool.put(OID, 3, b"12345678")
    with pytest.raises(TypeError, match="this one has 0"):
        pool.incr(OID)


@pytest.mark.parametrize("how", ["pages", "values"])
def test_a_put_over_a_value_needs_no_new_object(make_arena, how):
    """A full arena, but for memory of pages of the length that is put."""
    eng = make_arena(capacity="1MiB", page_size=512)
    pool = eng.new_pool("p", persistent=True)
    n = 0
    while pool.put_object((n, 0, 0), mixed(4 * n + 2, 60)):
        n += 1
        if n < 20:
            assert pool.put((0, 9, 9), n, mixed(4 * n + 2, 500))
    while pool.put((0, 9, 9), n, mixed(4 * n + 2, 500)):
        n += 1
    assert pool.flush_page((0, 9, 9), 3)
    put = pool.put_object if how == "values" else lambda oid, data: pool.put(oid, 0, data)
    assert put((1, 0, 0), mixed(2, 500)) and pool.get_object((1, 0, 0)) == mixed(2, 500)
    assert eng.check().ok


def test_the_memory_of_an_expired_value_is_anothers(make_arena):
    eng = make_arena(capacity="1MiB", page_size=512)
    pool = eng.new_pool("p", persistent=True)
    n = 0
    while pool.put_object((n, 0, 0), mixed(4 * n + 2, 300), ttl=100):
        n += 1
    ahead(eng, 101)
    assert all(pool.put_object((i, 0, 0), mixed(4 * i + 2, 310), if_absent=True) is True for i in range(0, n, 50))
    assert all(pool.put((i, 0, 0), 0, mixed(4 * i + 2, 310)) for i in range(1, n, 50))
    assert eng.check().ok


def test_a_range_is_one_value_however_long_it_becomes(make_arena):
    """No reader takes the beginning of a longer one for the whole."""
    eng = make_arena(capacity="8MiB", page_size=512)
    pool = eng.new_pool("p", shared=True)
    assert pool.put_range(OID, 0, b"\2" * 1024)
    pid = os.fork()
    if pid == 0:
        try:
            for n in range(8000):
                if n % 7 == 0:
                    pool.flush_object(OID)
                pool.put_range(OID, 0, bytes([2 + n % 7]) * (512 * (2 + n % 7)))
        finally:
            os._exit(0)
    reads = 0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        with pool.view_object(OID) as view:
            seen = [pool.get_object(OID), view and bytes(view)]
        reads += 1
        for data in filter(None, seen):
            assert data == data[:1] * (512 * data[0])
    assert reads > 10
