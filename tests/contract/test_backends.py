"""Owns the contract of back ends written in Python: pages kept elsewhere, allocations asked for and
told of, and exceptions raised in them."""
import os
import subprocess
import sys

import pytest

import engine
from tests.hostile.structs import CONSTANTS, Map, offset
from tests.support import SHM, CountingHost, DictPam, child_env, page

OID = (1, 2, 3)


@pytest.fixture
def pam():
    made = DictPam()
    made.record = True
    engine.register_pam("dict", lambda: made)
    return made


@pytest.fixture
def host():
    made = CountingHost()
    engine.register_hostops(made)
    return made


@pytest.fixture(params=[True, False], ids=["persistent", "ephemeral"])
def pool(request, eng, pam):
    return eng.new_pool("p", persistent=request.param, shared=False, pam="dict")


def test_what_a_back_end_is_asked(pool, pam):
    n = pool.id
    assert pool.pam == "dict"
    assert pool.put(OID, 5, b"one")
    assert pam.calls == [("new_obj", n, OID), ("create", n, OID, 5, b"one")]
    assert pool.put(OID, 5, bytearray(b"two"))
    assert pam.calls[2:] == [("free", n, OID, 5, 1), ("create", n, OID, 5, b"two")]
    assert type(pam.calls[3][4]) is bytes and type(pam.calls[0][2]) is tuple
    assert pool.get(OID, 5, free=False) == b"two" and pam.calls[4:] == [("get_data", n, OID, 5, 2)]
    assert pool.get(OID, 5, free=True) == b"two"
    assert pam.calls[5:] == [("get_data_and_free", n, OID, 5, 2), ("free_obj", n, OID)]
    assert pool.get(OID, 5) is None and len(pam.calls) == 7


def test_get_into(pool):
    buffer = bytearray(100)
    assert pool.put(OID, 0, page(1, 50)) and pool.get_into(OID, 0, buffer, free=False) == 50
    assert buffer[:50] == page(1, 50) and not any(buffer[50:])
    with pytest.raises(ValueError, match="buffer"):
        pool.get_into(OID, 0, bytearray(49), free=False)
    with pytest.raises(ValueError, match="buffer"):
        pool.get_into(OID, 0, bytearray(49), free=True)
    assert pool.get(OID, 0, free=False) == page(1, 50)
    assert pool.get_into(OID, 1, buffer) == -1


@pytest.mark.parametrize("how", ["flush_page", "flush_object", "destroy"])
def test_every_page_is_freed(eng, pool, pam, how):
    for n in range(200):
        assert pool.put((n % 3, 0, 0), n * 100, page(n))
    assert len(pam.stored) == 200 and len(pam.objects) == 3
    if how == "flush_page":
        assert all(pool.flush_page((n % 3, 0, 0), n * 100) for n in range(200))
    elif how == "flush_object":
        assert all(pool.flush_object((n, 0, 0)) for n in range(3))
    else:
        pool.destroy()
    assert not pam.stored and not pam.objects
    assert eng.check().ok


def test_a_refused_page(eng, pool, pam):
    assert pool.put(OID, 0, b"old") and pool.put(OID, 1, b"other")
    pam.capacity = 2
    assert pool.put(OID, 2, b"third") is False and pool.get(OID, 2) is None
    assert pool.put(OID, 0, b"new") is True                   # the old page makes room first
    pam.capacity = 1
    assert pool.put(OID, 0, b"newer") is False
    assert pool.get(OID, 0, free=False) is None and pool.get(OID, 1, free=False) == b"other"
    assert pool.object_info(OID) == (1, 1, 1)
    pam.capacity = 0
    assert pool.put(OID, 1, b"x") is False and pool.obj_count == 0 and not pam.objects and not pam.stored
    assert pool.put((7, 7, 7), 0, b"x") is False and not pam.objects
    counters = eng.stats()["pools"]["p"]
    assert (counters["puts_ok"], counters["puts_refused"], counters["puts_duplicate"]) == (3, 4, 1)
    assert eng.check().ok


def test_a_get_that_fails_leaves_the_page(pool, pam):
    assert pool.put(OID, 0, b"page")
    token, kept = next(iter(pam.stored.items()))
    pam.get_data = pam.get_data_and_free = lambda *_: None
    assert pool.get(OID, 0, free=False) is None and pool.get(OID, 0, free=True) is None
    assert pool.get_into(OID, 0, bytearray(512), free=True) == -1
    assert pool.object_info(OID)[0] == 1
    del pam.get_data, pam.get_data_and_free
    assert pam.stored == {token: kept} and pool.get(OID, 0) == b"page"


class Liar(DictPam):
    """Between its two calls of a put, the descriptor in the arena says that the page has another
    length."""

    def __init__(self, eng, length):
        super().__init__()
        self.record = True
        self.engine, self.length = eng, length
        self.told = None

    def set_length(self, length):
        """Write a length into the descriptor of the page that is being put, the first on its
        worker's list of such. The one it had."""
        with open(SHM / self.engine.name, "r+b", buffering=0) as file:
            fd = file.fileno()
            slot = Map(os.pread(fd, 4096, 0)).slot(self.engine.worker_id)
            staged = os.pread(fd, 8, slot + offset("Slot", "client", CONSTANTS["ROOT_STAGED"]))
            at = int.from_bytes(staged, "little") + offset("Pampd", "shape")
            old = int.from_bytes(os.pread(fd, 8, at), "little")
            os.pwrite(fd, (old >> 32 << 32 | length).to_bytes(8, "little"), at)
            return old & 0xFFFF_FFFF

    def new_obj(self, pool_id, oid):
        super().new_obj(pool_id, oid)
        assert self.set_length(self.length) == len(self.told)

    def create(self, pool_id, oid, index, data):
        assert self.set_length(len(self.told)) == self.length
        return super().create(pool_id, oid, index, data)


@pytest.mark.parametrize("length", [0, 1, 49, 51, 512, 513, 2**31, 2**32 - 1])
def test_a_back_end_gets_as_many_bytes_as_the_caller_gave_whatever_the_arena_says(eng, length):
    liar = Liar(eng, length)
    engine.register_pam("liar", lambda: liar)
    pool = eng.new_pool("p", persistent=True, pam="liar")
    liar.told = page(1, 50)
    assert pool.put(OID, 7, liar.told)
    assert liar.calls == [("new_obj", pool.id, OID), ("create", pool.id, OID, 7, liar.told)]
    assert pool.get(OID, 7) == liar.told and eng.check().ok


@pytest.mark.parametrize("token", [0, 1, 2**63, 2**64 - 1])
def test_any_64_bit_token(pool, pam, token):
    pam.create = lambda pool_id, oid, index, data: pam.stored.setdefault(token, (pool_id, oid, index, data)) and token
    assert pool.put(OID, 0, b"page") and pool.descriptor(OID, 0)[0] == token
    assert pool.get(OID, 0, free=False) == b"page"
    assert pool.flush_page(OID, 0) and not pam.stored


@pytest.mark.parametrize(
    ("token", "error"), [("text", TypeError), (-1, OverflowError), (2**64, OverflowError), (1.5, TypeError)]
)
def test_a_token_that_is_none(eng, pool, pam, token, error):
    pam.create = lambda *_: token
    with pytest.raises((error, TypeError, ValueError)):
        pool.put(OID, 0, b"page")
    assert pool.object_info(OID) is None and not pam.objects and eng.check().ok


@pytest.mark.parametrize("data", [b"shorter", b"", "text", bytearray(b"page page!")])
def test_a_back_end_that_gives_something_else(eng, pool, pam, data):
    assert pool.put(OID, 0, b"page page!")
    pam.get_data = lambda *_: data
    with pytest.raises((TypeError, ValueError)):
        pool.get(OID, 0, free=False)
    del pam.get_data
    assert pool.get(OID, 0, free=False) == b"page page!" and eng.check().ok


class Boom(Exception):
    """What a back end of these tests raises."""


def boom(*_):
    raise Boom


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("create", lambda pool: pool.put(OID, 1, b"x")),
        ("create", lambda pool: pool.put((8, 8, 8), 1, b"x")),
        ("new_obj", lambda pool: pool.put((8, 8, 8), 1, b"x")),
        ("free", lambda pool: pool.put(OID, 0, b"x")),
        ("free", lambda pool: pool.flush_page(OID, 0)),
        ("free", lambda pool: pool.flush_object(OID)),
        ("free_obj", lambda pool: pool.flush_page(OID, 0)),
        ("free_obj", lambda pool: pool.flush_object(OID)),
        ("get_data", lambda pool: pool.get(OID, 0, free=False)),
        ("get_data_and_free", lambda pool: pool.get(OID, 0, free=True)),
        ("get_data", lambda pool: pool.get_into(OID, 0, bytearray(512), free=False)),
        ("free", lambda pool: pool.destroy()),
        ("get_data_and_free", lambda pool: pool.get_into(OID, 0, bytearray(512), free=True)),
        ("replace_in_obj", lambda pool: pool.replace(OID, 0, 9, pool.descriptor(OID, 0)[1])),
    ],
)
def test_an_exception_in_a_back_end_reaches_the_caller(eng, pool, pam, method, call):
    """And no lock is left behind: everything works on."""
    assert pool.put(OID, 0, b"page")
    setattr(pam, method, boom)
    with pytest.raises(Boom):
        call(pool)
    delattr(pam, method)
    assert eng.check().ok
    fresh = eng.new_pool("fresh", pam="dict")
    for oid in (OID, (8, 8, 8)):
        assert fresh.put(oid, 1, b"again") and fresh.get(oid, 1) == b"again"
    if method in ("create", "new_obj"):
        assert pool.get(OID, 0, free=False) == b"page" and pool.get((8, 8, 8), 1) is None


@pytest.mark.parametrize(("method", "oid"), [("new_obj", (8, 8, 8)), ("free", OID)])
def test_a_put_that_fails_early_leaves_no_page_in_the_back_end(pool, pam, method, oid):
    """A page the back end took before or after the failure is given back to it, or never
    offered."""
    assert pool.put(OID, 0, b"old page")
    setattr(pam, method, boom)
    with pytest.raises(Boom):
        pool.put(oid, 0, b"new page")
    delattr(pam, method)
    assert [entry[3] for entry in pam.stored.values()] == [b"old page"]


def test_the_first_exception_is_the_one_raised(pool, pam):
    def later(*_):
        raise KeyError("a consequence")

    assert pool.put(OID, 0, b"page")
    pam.free, pam.free_obj = boom, later
    with pytest.raises(Boom):
        pool.flush_page(OID, 0)


def test_a_failed_get_leaves_the_page_after_an_exception(pool, pam):
    assert pool.put(OID, 0, b"page")
    pam.get_data_and_free = boom
    with pytest.raises(Boom):
        pool.get(OID, 0, free=True)
    del pam.get_data_and_free
    assert pool.get(OID, 0, free=True) == b"page" and not pam.stored


def test_replace(pool, pam):
    assert pool.descriptor(OID, 0) is None and pool.replace(OID, 0, 5, 1) is False
    assert pool.put(OID, 0, b"page")
    token, generation = pool.descriptor(OID, 0)
    assert pool.replace(OID, 0, 77, generation + 1) is False and token in pam.stored
    assert pool.replace(OID, 0, 77, generation) is True
    assert pool.descriptor(OID, 0)[0] == 77 and pool.get(OID, 0, free=False) == b"page"
    assert pool.replace(OID, 0, 78, generation) is False, "a generation serves once"
    pam.replace_in_obj = lambda *_: False
    assert pool.replace(OID, 0, 79, pool.descriptor(OID, 0)[1]) is False
    assert pool.descriptor(OID, 0)[0] == 77


def test_a_put_makes_a_new_generation(eng):
    pool = eng.new_pool("p", persistent=True)
    seen = set()
    for n in range(100):
        assert pool.put(OID, 0, page(n))
        seen.add(pool.descriptor(OID, 0)[1])
        assert pool.object(OID).descriptor(0) == pool.descriptor(OID, 0)
    assert len(seen) == 100 and all(isinstance(generation, int) for generation in seen)


def test_a_remote_page(pool, pam):
    pam.is_remote = lambda token: True
    for n in range(20):
        assert pool.put(OID, n, page(n))
    for n in range(20):
        assert pool.get(OID, n, free=False) == page(n)
        assert pool.get(OID, n, free=True) == page(n)
    assert pool.obj_count == 0 and not pam.stored


def test_one_instance_a_process_and_name(eng):
    made = []

    def factory():
        made.append(DictPam())
        return made[-1]

    engine.register_pam("counted", factory)
    assert not made
    a, b = eng.new_pool("a", pam="counted"), eng.new_pool("b", pam="counted")
    assert a.put(OID, 0, b"a") and b.put(OID, 0, b"b") and len(made) == 1
    assert sorted(entry[3] for entry in made[0].stored.values()) == [b"a", b"b"]


# --- host operations ------------------------------------------------------------------------------


def test_allocations_are_asked_for_and_frees_told(eng, host):
    pool = eng.new_pool("p", persistent=True)
    for n in range(300):
        assert pool.put((n % 7, 0, 0), n * n, page(n))
    total = eng.stats()["total"]
    assert (host.objects, host.objnodes) == (total["objects"], total["objnodes"]) and host.objnodes > 300
    for n in range(300):
        assert pool.flush_page((n % 7, 0, 0), n * n)
    assert (host.objects, host.objnodes) == (0, 0)


@pytest.mark.parametrize("how", ["flush_object", "destroy"])
def test_frees_are_told_when_whole_objects_go(eng, host, how):
    pool = eng.new_pool("p", persistent=True)
    for n in range(300):
        assert pool.put((n % 7, 0, 0), n * n, page(n))
    if how == "flush_object":
        assert all(pool.flush_object((n, 0, 0)) for n in range(7))
    else:
        pool.destroy()
    assert (host.objects, host.objnodes) == (0, 0)


def test_a_refused_obj(eng, host):
    pool = eng.new_pool("p", persistent=True)
    host.refuse_obj = True
    assert pool.put(OID, 0, b"x") is False and host.refused == 1 and pool.obj_count == 0
    assert pool.put(OID, 0, b"x") is True
    assert (host.objects, host.objnodes) == (1, 0)


@pytest.mark.parametrize("nth", range(1, 12))
def test_a_refused_objnode_undoes_the_put(eng, host, nth):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put(OID, 0, b"first")
    host.refuse_objnode = nth
    assert pool.put(OID, 2**63, b"far") is (nth > 21)
    assert pool.object_info(OID) == (1, 0, 0) and (host.objects, host.objnodes) == (1, 0)
    host.refuse_objnode = 2
    assert pool.put((5, 5, 5), 64, b"x") is False
    assert pool.object_info((5, 5, 5)) is None and (host.objects, host.objnodes) == (1, 0)
    assert pool.get(OID, 0) == b"first" and eng.check().ok


def test_a_refused_overwrite_empties_the_handle(eng, host):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put(OID, 64, b"old")
    host.refuse_objnode = 1
    assert pool.put(OID, 64, b"new") is False
    assert pool.get(OID, 64) is None and pool.obj_count == 0 and (host.objects, host.objnodes) == (0, 0)
    assert eng.check().ok


def test_ranges_are_refused_as_a_whole(eng, host):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put(OID, 0, b"in the range") and pool.put(OID, 500, b"behind it")
    before = (host.objects, host.objnodes)
    host.refuse_objnode = 3
    assert pool.put_range(OID, 0, bytes(512 * 300)) is False
    assert pool.get(OID, 0) is None and pool.get(OID, 500) == b"behind it" and pool.object_info(OID) == (1, 2, 2)
    assert host.refused == 1 and host.objects == before[0]
    assert eng.check().ok


@pytest.mark.parametrize("method", ["obj_alloc", "objnode_alloc", "obj_free", "objnode_free"])
def test_an_exception_in_host_operations_reaches_the_caller(eng, host, method):
    pool = eng.new_pool("p", persistent=True)
    if method.endswith("free"):
        assert pool.put(OID, 64, b"page")
    setattr(host, method, boom)
    with pytest.raises(Boom):
        pool.flush_page(OID, 64) if method.endswith("free") else pool.put(OID, 64, b"page")
    delattr(host, method)
    assert pool.get(OID, 64) is None and pool.obj_count == 0
    assert pool.put(OID, 64, b"again") and pool.get(OID, 64) == b"again" and eng.check().ok


def test_none_brings_the_built_in_host_back(eng, host):
    engine.register_hostops(None)
    assert eng.new_pool("p").put(OID, 0, b"x") and host.objects == 0


# --- back ends of another process -----------------------------------------------------------------


def test_a_back_end_that_is_not_registered_here(eng, pam):
    pool = eng.new_pool("p", pam="dict")
    pool.put(OID, 0, b"x")
    code = (
        "import sys, engine\n"
        "with engine.attach(sys.argv[1]) as eng:\n"
        "    try:\n"
        "        eng.pool('p').get((1, 2, 3), 0)\n"
        "    except engine.TmemError as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, eng.name], capture_output=True, text=True, timeout=60,
                          env=child_env())
    assert told.stdout.startswith("TmemError") and "dict" in told.stdout, told
    assert pool.get(OID, 0) == b"x"


# --- values ---------------------------------------------------------------------------------------


def test_a_value_of_a_back_end(eng, pool, pam):
    n = pool.id
    assert pool.put_object(OID, [b"val", b"ue"], key=b"k", word=7, ttl=60)
    stored = b"valuek" + (7).to_bytes(8, "little") + b"\1\0\0\xc0"
    assert pam.calls == [("new_obj", n, OID), ("create", n, OID, 0, stored)]
    data, info = pool.get_object(OID, info=True)
    assert data == pool.get_object(OID) == b"value" and info[:4] == (OID, b"k", 5, 7) and 59 < info.expires <= 60
    room = bytearray(5)
    assert pool.get_object_into(OID, room) == 5 and room == b"value"
    assert pool.get(OID, 0, free=False) == b"value" and pool.get_into(OID, 0, room, free=False) == 5
    assert pool.get_many([(OID, 0)], free=False) == pool.object(OID).get_many([0], free=False) == [b"value"]
    with pool.view_object(OID) as one, pool.view(OID, 0) as two, pool.view(OID, 0, 1) as three:
        assert one == two == three[0] == b"value"
    assert pool.put_object(OID, b"no", if_absent=True) is engine.CONFLICT
    assert pool.put_object(OID, b"no", if_absent=True, key=b"k") is engine.CONFLICT
    assert pool.put_object(OID, b"no", if_version=info.version + 1) is engine.CONFLICT
    assert pool.get_object(OID) == b"value" and len(pam.stored) == 1
    del pam.calls[:]
    assert pool.put_object(OID, b"new", if_version=info.version) is True
    assert pam.calls == [("free", n, OID, 0, 1), ("create", n, OID, 0, b"new")] and pool.expires(OID) is None
    with pool.writing_object(OID, 4, key=b"k") as page:
        memoryview(page)[:] = b"four"
    assert pool.get_object(OID, info=True)[1].key == b"k"
    assert pool.flush_object(OID) and not pam.stored and not pam.objects


def test_counts_of_a_back_end(eng, pool, pam):
    assert pool.incr(OID, 3, key=b"k") == 3 and pool.incr(OID, -5, key=b"k") == -2
    assert pool.incr(OID, 8, key=b"another") == 8 and pool.get_object(OID, info=True)[1].key == b"another"
    assert len(pam.stored) == len(pam.objects) == 1
    with pytest.raises(KeyError):
        pool.incr(OID, initial=None, key=b"k")
    pam.get_data = lambda *_: None
    with pytest.raises(engine.TmemError, match="does not give"):
        pool.incr(OID, key=b"another")
    assert pool.get_object(OID) is None and pool.has(OID)
    del pam.get_data
    assert pool.put_object(OID, b"no count") and pool.put(OID, 1, b"x")
    with pytest.raises(TypeError, match="8 bytes"):
        pool.incr(OID)


@pytest.mark.parametrize("indexes", [[0, 1, 70], [5, 6]])
@pytest.mark.parametrize("expired", [False, True])
def test_a_value_of_a_back_end_in_the_place_of_pages(eng, pool, pam, indexes, expired):
    """The back end keeps the object, and the page that is replaced leaves first."""
    for n in indexes:
        assert pool.put(OID, n, page(n))
    pool.touch(OID, 5)
    eng.set_clock_ahead(9 if expired else 0)
    if not expired:
        with pytest.raises(engine.TmemError, match="no value"):
            pool.get_object(OID)
    pam.capacity = len(indexes) + (0 not in indexes)
    assert pool.put_object(OID, b"value") and pool.get_object(OID) == b"value"
    assert len(pam.stored) == 1 and pam.objects == {(pool.id, OID)}
    eng.set_clock_ahead(0)
    assert pool.object_info(OID) == (1, 0, 0) and pool.flush_object(OID)
    assert not pam.stored and not pam.objects and eng.check().ok


@pytest.mark.parametrize("over", [None, 1, 3])
@pytest.mark.parametrize("what", ["page", "object"])
def test_a_value_that_a_back_end_refuses_leaves_nothing(eng, pool, pam, over, what):
    for n in range(over or 0):
        assert pool.put(OID, n, page(n))
    if what == "page":
        pam.refuse_next = True
    else:
        pam.new_obj = pam.free_obj = lambda *_: 1 // 0
    if what == "object" and over is None:
        with pytest.raises(ZeroDivisionError):
            pool.put_object(OID, b"value")
    else:
        assert pool.put_object(OID, b"value") is (what == "object")
    assert pool.has(OID) is (what == "object" and over is not None)
    if what == "page":
        assert not pam.stored and not pam.objects
    assert eng.check().ok


@pytest.mark.parametrize("pages", [0, 1, 3, 5000])
def test_a_host_that_refuses_a_value(eng, host, pages):
    """It is told of what the pages took that were in its place, and of no more."""
    pool = eng.new_pool("p", persistent=True)
    for n in range(pages):
        assert pool.put(OID, n, b"x")
    assert pool.put_object(OID, b"value") and pool.get_object(OID) == b"value"
    assert pool.flush_object(OID)
    assert (host.objects, host.objnodes) == (0, 0)
    for n in range(pages):
        assert pool.put(OID, n, b"x")
    host.refuse_obj = True
    assert pool.put_object(OID, b"value") is (pages == 1) and pool.has(OID) is (pages == 1)
    pool.flush_object(OID)
    host.refuse_obj = False
    assert pool.put_object(OID, b"again") and pool.flush_object(OID)
    assert (host.objects, host.objnodes) == (0, 0) and eng.check().ok


def test_a_remote_value(eng, pam):
    pool = eng.new_pool("p", persistent=True, pam="dict")
    assert pool.put_object(OID, b"from afar", key=b"key", word=1)
    pam.is_remote = lambda token: True
    version = pool.get_object(OID, info=True)[1].version
    assert pool.put_object(OID, b"another", if_version=version) is True
    assert pool.get_object(OID, info=True)[1].version > version and pool.get(OID, 0) == b"another"
