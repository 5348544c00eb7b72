"""Owns what may go on around a verb of values: views and writings that are open, signal handlers,
buffers and numbers that run Python, threads, forks, clients that may put nothing more, and values
that are longer than what is left."""
import contextlib
import os
import random
import signal
import struct
import threading
import time

import pytest

import engine

OID, OTHER = (1, 2, 3), (4, 5, 6)
KIB, MIB = 1 << 10, 1 << 20
NOISE = random.Random(4).randbytes(4 * MIB)


def value(n, length):
    return (b"%08d" % n + NOISE[n % 999:])[:length]


@pytest.fixture(params=["persistent", "ephemeral", "twins", "lz4"])
def pool(request, make_arena):
    if request.param == "lz4":
        pytest.importorskip("lz4.block")
    how = {"persistent": {"persistent": True}, "ephemeral": {"shared": True}, "twins": {"dedup": True},
           "lz4": {"pam": "lz4"}}[request.param]
    eng = make_arena(capacity="16MiB", max_capacity="32MiB")
    yield eng.new_pool("p", **how)
    if not eng.closed:
        report = eng.check()
        assert report.ok, [str(problem) for problem in report.problems[:3]]


MEANWHILE = {
    "put": lambda pool: pool.put_object(OID, b"another", key=b"k2"),
    "put-long": lambda pool: pool.put_object(OID, value(5, 300_000)),
    "put-pages": lambda pool: pool.put_range(OID, 0, value(5, 9000)),
    "put-page": lambda pool: pool.put(OID, 7, b"far"),
    "flush": lambda pool: pool.flush_object(OID),
    "touch": lambda pool: pool.touch(OID, 0),
    "write": lambda pool: write(pool, OID, b"written"),
    "resize": lambda pool: [pool.engine.resize(size) for size in ("12MiB", "24MiB")],
    "repair": lambda pool: pool.engine.check(repair=True),
    "fill": lambda pool: [pool.put_object((n, 9, 9), value(n, 300_000)) for n in range(70)],
}


def write(pool, oid, data, **how):
    with pool.writing_object(oid, len(data), **how) as page:
        memoryview(page)[:] = data


@pytest.mark.parametrize("what", MEANWHILE)
@pytest.mark.parametrize("length", [8, 100_000])
def test_a_view_of_a_value_stays_what_it_was(pool, length, what):
    data = value(1, length)
    assert pool.put_object(OID, data, key=b"k", word=3)
    with pool.view_object(OID) as seen:
        MEANWHILE[what](pool)
        assert seen == data
        if length == 8 and what in ("resize", "repair", "fill") and pool.has(OID):
            assert pool.incr(OID) == struct.unpack("<q", data)[0] + 1 and seen == data


@pytest.mark.parametrize("what", MEANWHILE)
@pytest.mark.parametrize("length", [0, 3000, 100_000])
def test_a_value_that_is_written_is_put_whatever_happens_meanwhile(pool, length, what):
    data = value(2, length)
    assert pool.put_object(OID, b"old")
    try:
        with pool.writing_object(OID, length, key=b"k", word=3, ttl=50) as page:
            memoryview(page)[:] = data
            MEANWHILE[what](pool)
            assert bytes(memoryview(page)) == data
    except engine.TmemError as error:
        assert what == "repair" and "repaired" in str(error) or isinstance(error, engine.ArenaFull)
        return
    found, info = pool.get_object(OID, info=True)
    assert found == data and (info.key, info.word) == (b"k", 3) and 20 < info.expires <= 50
    assert pool.object_info(OID) == (1, 0, 0)


def test_a_writing_whose_pool_or_engine_goes(pool):
    with pytest.raises(engine.TmemError), pool.writing_object(OID, 9, key=b"k"):
        pool.destroy()
    again = pool.engine.new_pool("again")
    with pytest.raises(BufferError, match="1 pages are viewed"), again.writing_object(OID, 9, key=b"k"):
        pool.engine.close()
    assert not again.has(OID)


@pytest.mark.parametrize("length", [500, 200 * KIB, 900 * KIB])
def test_handlers_use_the_pool_in_the_middle(pool, length):
    """They put under the same oid and others, count, and take the list apart that is put."""
    rung, parts, busy = [], [], []

    def ring(*_):
        if busy:
            return
        busy.append(1)
        rung.append(1)
        pool.put_object(OID, value(77, 700 * KIB if len(rung) % 3 == 0 else 300), key=b"handler", word=77)
        pool.incr(OTHER)
        pool.flush_object(OID) if len(rung) % 5 == 0 else None
        del parts[:], busy[:]

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0017)
    try:
        until = time.monotonic() + 0.4
        n = 0
        while time.monotonic() < until:
            n += 1
            data = value(n % 50, length)
            parts[:] = [bytearray(data[:99]), memoryview(data)[99:300], data[300:]]
            taken = len(parts) == 3
            answer = pool.put_object(OID, parts, key=b"main", word=n)
            found = pool.get_object(OID, info=True)
            if found is not None:
                got, info = found
                assert info.key in (b"main", b"handler")
                if info.key == b"handler":
                    assert info.word == 77 and got in (value(77, 300), value(77, 700 * KIB))
                else:
                    assert info.word == n and (got == data or got == b"" or not taken), (len(got), len(data))
            assert answer in (True, False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(rung) > 5
    if pool.persistent:
        assert pool.incr(OTHER, 0) == len(rung)


class Number:
    """One that does something when it is asked what it is."""

    def __init__(self, do, number=7):
        self.do, self.number = do, number

    def __index__(self):
        self.do()
        return self.number

    def __float__(self):
        self.do()
        return float(self.number)


class Bytes(bytearray):
    """A buffer whose end runs Python."""

    do = None

    def __del__(self):
        if self.do is not None:
            self.do()


def test_arguments_that_run_python(pool):
    parts = [b"a", b"b"]
    assert pool.put_object(OID, parts, word=Number(parts.clear)) and pool.get_object(OID) == b""
    assert pool.put_object(OID, [b"x"], ttl=Number(lambda: pool.put_object(OID, b"in between")), if_absent=True) \
        is engine.CONFLICT
    assert pool.get_object(OID) == b"in between"
    assert pool.flush_object(OID)
    assert pool.incr(OID, Number(lambda: pool.put_object(OID, struct.pack("<q", 5)))) == 12
    assert pool.incr((7, 7, 7), 1, Number(lambda: pool.flush_object((7, 7, 7)))) == 8
    last = Bytes(value(1, 200 * KIB))
    ends = []
    last.do = lambda: ends.append(pool.put_object(OID, b"at the end"))
    held = [last, b"and more"]
    del last
    before = signal.signal(signal.SIGALRM, lambda *_: held.clear())
    signal.setitimer(signal.ITIMER_REAL, 0.0001)
    try:
        assert pool.put_object(OTHER, held) is True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    held.clear()
    assert ends == [True] and pool.get_object(OID) == b"at the end"
    assert pool.get_object(OTHER) in (value(1, 200 * KIB) + b"and more", b"")


@pytest.mark.parametrize("what", ["close", "destroy"])
def test_arguments_that_end_what_they_are_for(pool, what):
    do = pool.engine.close if what == "close" else pool.destroy
    assert pool.put_object(OID, struct.pack("<q", 5))
    with pytest.raises((engine.TmemError, ValueError)):
        pool.put_object(OID, b"x", ttl=Number(do))
    for call in (lambda: pool.incr(OID, Number(lambda: None)), lambda: pool.touch(OID, Number(lambda: None)),
                 lambda: pool.expires(OID), lambda: pool.has(OID), lambda: pool.get_object(OID, info=True),
                 lambda: pool.view_object(OID), lambda: write(pool, OID, b"x"), lambda: pool.flush_object(OID, 3),
                 lambda: pool.get_object_into(OID, bytearray(9)), lambda: pool.put_object(OID, b"x", ttl=0)):
        with pytest.raises((engine.TmemError, ValueError)):
            call()


def test_a_value_is_put_from_another_that_is_written_or_seen(pool):
    with pool.writing_object(OID, 300_000) as page:
        memoryview(page)[:] = value(1, 300_000)
        assert pool.put_object(OTHER, [page, memoryview(page)[:9]]) is True
    with pool.view_object(OTHER) as seen:
        assert pool.put_object(OTHER, [seen[:1000], seen[-9:]], key=b"k") and len(seen) == 300_009
    assert pool.get_object(OTHER) == value(1, 1000) + value(1, 9)
    assert pool.get_object(OID) == value(1, 300_000)


@pytest.mark.parametrize("length", [100, 150 * KIB])
def test_threads_at_one_pool(pool, length):
    """Some put values, count, look and flush; who sees one sees it whole."""
    faults, counted = [], [0] * 4
    until = time.monotonic() + 0.5

    def work(me):
        rnd = random.Random(me)
        try:
            while time.monotonic() < until:
                n, oid = rnd.randrange(100), (rnd.randrange(3), 1, 1)
                verb = rnd.randrange(10)
                if verb < 3:
                    data = value(n, length + n)
                    pool.put_object(oid, [data[:50], data[50:]], key=b"%d" % n, word=n, ttl=rnd.choice((None, 60)))
                elif verb == 3:
                    with contextlib.suppress(engine.ArenaFull, engine.TooMuchPinned):
                        write(pool, oid, value(n, length + n), key=b"%d" % n, word=n)
                elif verb == 4:
                    pool.incr(OTHER)
                    counted[me] += 1
                elif verb == 5:
                    pool.flush_object(oid) if n % 2 else pool.touch(oid, 0)
                elif verb == 6:
                    with contextlib.suppress(engine.TooMuchPinned), pool.view_object(oid) as seen:
                        assert seen is None or bytes(seen) == value(int(bytes(seen[:8])), length + int(bytes(seen[:8])))
                else:
                    found = pool.get_object(oid, info=True)
                    if found is not None:
                        data, info = found
                        assert data == value(info.word, length + info.word) and info.key == b"%d" % info.word
        except BaseException as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[0]
    assert pool.incr(OTHER, 0) == sum(counted)


@pytest.mark.parametrize("what", ["destroy", "shrink", "close"])
def test_another_thread_while_a_long_value_is_copied(make_arena, what):
    """The GIL is free then: the put is done, or says why not."""
    for turn in range(6):
        eng = make_arena(capacity="16MiB")
        pool = eng.new_pool("p", persistent=turn % 2 == 0)
        ready = threading.Event()
        errors = []

        def put(pool=pool, ready=ready, errors=errors):
            data = [NOISE[:700 * KIB], NOISE[:300 * KIB]]
            try:
                for n in range(40):
                    if n == 5:
                        ready.set()
                    if pool.put_object((n % 9, 0, 0), data, key=b"k") is True:
                        found = pool.get_object((n % 9, 0, 0))
                        assert found is None or found == b"".join(data)
            except (engine.TmemError, ValueError) as error:
                errors.append(error)
            except BaseException as error:
                errors.append(repr(error))
            finally:
                ready.set()

        thread = threading.Thread(target=put)
        thread.start()
        ready.wait()
        time.sleep(turn * 0.0003)
        if what == "destroy":
            pool.destroy()
        elif what == "close":
            eng.close()
        else:
            with contextlib.suppress(engine.TmemError):
                eng.resize("2MiB")
        thread.join()
        assert not any(isinstance(error, str) for error in errors), errors
        if what == "shrink":
            assert not errors, errors
        if what != "close":
            assert eng.check().ok
            eng.close()


def test_a_fork_in_the_middle_of_a_writing(pool):
    assert pool.put_object(OID, b"old", key=b"k")
    copied = pool.pam != "raw" or pool.engine.stats()["pools"]["p"].get("dedup")
    page = pool.writing_object(OID, 3000, key=b"k", word=4)
    page.__enter__()
    memoryview(page)[:] = value(3, 3000)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            try:
                page.__exit__(None, None, None)
                status = 2
            except engine.TmemError as error:
                status = 0 if "forked" in str(error) else 3
            if pool.put_object(OTHER, b"the child's", word=1) is not True:
                status = 4
        finally:
            os._exit(status)
    answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert answer in ((0, 2) if copied or answer == 2 else (0,)) and pool.get_object(OTHER) == b"the child's"
    page.__exit__(None, None, None)
    assert pool.get_object(OID) == value(3, 3000) and pool.get_object(OID, info=True)[1].word == 4


@pytest.mark.parametrize("persistent", [False, True])
def test_a_frozen_client_puts_over_what_it_has(make_arena, persistent):
    eng = make_arena(capacity="8MiB")
    pool = eng.new_pool("p", client=3, persistent=persistent)
    assert pool.put_object(OID, b"here") and pool.put(OTHER, 5, b"a page")
    eng.client(3).freeze()
    for data in (b"shorter", value(1, 900), value(1, 90_000), b""):
        assert pool.put_object(OID, data, key=b"k", if_absent=False) and pool.get_object(OID) == data
    assert pool.put_object(OID, b"x", if_absent=True) is engine.CONFLICT
    assert pool.put_object((9, 9, 9), b"new") is False and pool.put_object((9, 9, 9), b"", if_absent=True) is False
    with pytest.raises(engine.ArenaFull):
        pool.incr((9, 9, 9))
    assert pool.put_object(OTHER, b"where no first page is") is False and not pool.has(OTHER)
    eng.client(3).thaw()
    assert pool.put_object((9, 9, 9), b"new") is True and eng.check().ok


def test_a_value_that_is_longer_than_a_cap(make_arena):
    eng = make_arena(capacity="16MiB", shards=2)
    pages = eng.new_pool("pages", cap=20)
    for n in range(40):
        assert pages.put_object((n, 0, 0), value(n, 100_000 + n))
        counts = eng.stats()["pools"]["pages"]
        assert counts["pages"] <= 20
    assert pages.get_object((39, 0, 0)) == value(39, 100_039)
    limit = eng.new_pool("bytes", cap="1MiB")
    for n in range(30):
        limit.put_object((n, 0, 0), value(n, 200_000))
        assert eng.stats()["pools"]["bytes"]["bytes_used"] <= MIB
    limit.put_object(OID, value(1, 2 * MIB))
    assert eng.stats()["pools"]["bytes"]["bytes_used"] <= 2 * MIB + 64 * KIB and eng.check().ok


def test_a_value_that_can_never_fit_drives_nobody_out(make_arena):
    eng = make_arena(capacity="4MiB")
    pool, kept = eng.new_pool("p"), eng.new_pool("kept", persistent=True)
    assert all(pool.put_object((n, 0, 0), value(n, 900)) for n in range(50))
    assert kept.put_object(OID, value(1, MIB))
    for where in (pool, kept):
        assert where.put_object(OTHER, [NOISE, NOISE]) is False and not where.has(OTHER)
    with pytest.raises(engine.ArenaFull):
        write(pool, OTHER, NOISE * 2)
    assert all(pool.has((n, 0, 0)) for n in range(50)) and kept.get_object(OID) == value(1, MIB)
    assert eng.check().ok


def test_a_value_of_64_mib(make_arena):
    eng = make_arena(capacity="1GiB", max_pinned="256MiB")
    pool = eng.new_pool("p", shared=True)
    parts = [NOISE] * 16
    assert pool.put_object(OID, parts, key=b"k", word=1, ttl=60) is True
    with pool.view_object(OID) as seen:
        assert len(seen) == 64 * MIB and seen[:4 * MIB] == NOISE and seen[-4 * MIB:] == NOISE
    room = bytearray(64 * MIB)
    assert pool.get_object_into(OID, room) == 64 * MIB and room == NOISE * 16
    assert pool.get_object(OID, info=True)[1][1:4] == (b"k", 64 * MIB, 1)
    assert pool.put_object(OID, b"short") and eng.check().ok
