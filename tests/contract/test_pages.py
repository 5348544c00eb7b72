"""Owns the contract of single pages: put, get, get_into, flush, handles of objects, object_info, a
full arena."""
import array
import mmap

import pytest

import engine
from tests.support import KINDS, U64_MAX, page, tree_shape

OID = (1, 2, 3)


@pytest.fixture(params=KINDS)
def pool(request, eng):
    return eng.new_pool("p", **KINDS[request.param])


def stays(pool):
    """Whether a get without `free` leaves the page."""
    return pool.persistent or pool.shared


def test_a_page_comes_back(pool):
    assert pool.get(OID, 0) is None
    assert pool.put(OID, 0, b"content") is True
    found = pool.get(OID, 0)
    assert found == b"content" and type(found) is bytes
    assert pool.get(OID, 0) == (b"content" if stays(pool) else None)


@pytest.mark.parametrize("free", [None, True, False])
def test_free_overrides_the_default(pool, free):
    assert pool.put(OID, 5, b"page")
    leaves = not stays(pool) if free is None else free
    assert pool.get(OID, 5, free) == b"page"
    assert pool.obj_count == (0 if leaves else 1)
    assert pool.put(OID, 5, b"page")
    assert pool.get(OID, 5, free=free) == b"page"
    assert pool.get(OID, 5, free=False) == (None if leaves else b"page")


@pytest.mark.parametrize("length", [1, 7, 8, 63, 64, 65, 200, 511, 512])
def test_the_length_is_kept(pool, length):
    assert pool.put(OID, 0, page(length, length))
    assert pool.get(OID, 0, free=False) == page(length, length)
    buffer = bytearray(512)
    assert pool.get_into(OID, 0, buffer, free=False) == length
    assert buffer == page(length, length).ljust(512, b"\0")


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
def test_every_size_of_page(make_arena, page_size):
    pool = make_arena(page_size=page_size, capacity="32MiB").new_pool("p", persistent=True)
    for n in range(20):
        length = page_size - n * (page_size // 20)
        assert pool.put(OID, n, page(n, length)) and pool.get(OID, n) == page(n, length)
    with pytest.raises(ValueError, match="data"):
        pool.put(OID, 0, bytes(page_size + 1))


def test_an_overwrite_replaces(pool):
    for n, length in enumerate((10, 512, 1, 300, 300, 64)):
        assert pool.put(OID, 9, page(n, length))
        assert pool.get(OID, 9, free=False) == page(n, length)
        assert pool.object_info(OID)[0] == 1


@pytest.mark.parametrize("data", [
    b"bytes page", bytearray(b"bytearray page"), memoryview(b"xx view page")[3:], array.array("Q", range(8)),
    memoryview(bytearray(range(100))).cast("B", (10, 10)),
], ids=["bytes", "bytearray", "memoryview", "array", "two dimensions"])
def test_any_contiguous_buffer_is_data(pool, data):
    assert pool.put(OID, 0, data)
    assert pool.get(OID, 0) == bytes(memoryview(data).cast("B"))


def test_a_copy_is_taken(pool):
    data = bytearray(b"before")
    assert pool.put(OID, 0, data)
    data[:] = b"after!"
    assert pool.get(OID, 0) == b"before"


def test_get_into_any_writable_buffer(pool):
    for buffer in (bytearray(600), memoryview(bytearray(700))[50:], array.array("I", [0] * 150), mmap.mmap(-1, 4096)):
        assert pool.put(OID, 0, page(3, 512))
        assert pool.get_into(OID, 0, buffer) == 512
        assert bytes(memoryview(buffer).cast("B"))[:512] == page(3, 512)
    assert pool.flush_object(OID) is stays(pool)
    assert pool.get_into(OID, 0, bytearray(512)) == -1


def test_get_into_exactly_as_long_as_the_page(pool):
    assert pool.put(OID, 0, page(3, 100))
    buffer = bytearray(100)
    assert pool.get_into(OID, 0, buffer, free=False) == 100 and buffer == page(3, 100)
    with pytest.raises(ValueError, match="buffer"):
        pool.get_into(OID, 0, bytearray(99))
    with pytest.raises(ValueError, match="buffer"):
        pool.get_into(OID, 0, bytearray(99), free=True)
    with pytest.raises(ValueError, match="buffer"):
        pool.get_into(OID, 0, bytearray(0))
    assert pool.get(OID, 0) == page(3, 100)               # too short a buffer loses no page


def test_a_miss_leaves_the_buffer_alone(pool):
    buffer = bytearray(b"\xaa" * 512)
    assert pool.get_into(OID, 0, buffer) == -1 and buffer == b"\xaa" * 512
    pool.put(OID, 1, b"x")
    assert pool.get_into(OID, 0, buffer) == -1 and buffer == b"\xaa" * 512


def test_flush_page(pool):
    assert pool.flush_page(OID, 0) is False
    assert pool.put(OID, 0, b"a") and pool.put(OID, 1, b"b")
    assert pool.flush_page(OID, 0) is True and pool.flush_page(OID, 0) is False
    assert pool.get(OID, 0) is None and pool.get(OID, 1, free=False) == b"b"
    assert pool.flush_page(OID, 1) is True and pool.obj_count == 0


def test_flush_object(pool):
    other = (1, 2, 4)
    assert pool.flush_object(OID) is False
    for index in (0, 1, 64, 70000, U64_MAX):
        assert pool.put(OID, index, page(index)) and pool.put(other, index, page(index))
    assert pool.flush_object(OID) is True and pool.flush_object(OID) is False
    assert pool.object_info(OID) is None and pool.object_info(other)[0] == 5
    assert [pool.get(OID, index) for index in (0, 1, 64, 70000, U64_MAX)] == [None] * 5
    assert pool.obj_count == 1


def test_the_last_page_takes_the_object(pool):
    assert pool.put(OID, 7, b"x") and pool.obj_count == 1
    assert pool.get(OID, 7, free=True) == b"x"
    assert pool.obj_count == 0 and pool.object_info(OID) is None


@pytest.mark.parametrize("indexes", [
    [0], [1], [63], [64], [0, 63, 64], [4095, 4096], [2**32 - 1], [2**60 - 1], [2**60], [U64_MAX], [0, U64_MAX],
    [6 ** n for n in range(25)], list(range(200)), [64 ** n - 1 for n in range(1, 11)], [64 ** n for n in range(11)],
], ids=lambda indexes: f"{len(indexes)} to {indexes[-1]}")
def test_object_info_follows_from_the_indexes(eng, indexes):
    pool = eng.new_pool("p", persistent=True)
    held = set()
    for index in indexes:
        assert pool.put(OID, index, page(index))
        held.add(index)
        assert pool.object_info(OID) == (len(held), *tree_shape(held))
    for index in indexes:
        assert pool.get(OID, index) == page(index)
    for index in reversed(indexes):
        assert pool.flush_page(OID, index)
        held.remove(index)
        assert pool.object_info(OID) == ((len(held), *tree_shape(held)) if held else None)
    assert eng.check().ok


@pytest.mark.parametrize("oid", [(0, 0, 0), (U64_MAX,) * 3, (2**63, 0, 0), (0, 0, 2**63), [1, 2, 3]])
def test_every_triple_is_an_oid(pool, oid):
    assert pool.put(oid, 0, b"page") and pool.get(oid, 0, free=False) == b"page"
    assert pool.get(tuple(oid), 0) == b"page"


def test_oids_that_differ_in_one_word_are_different(pool):
    oids = [tuple(int(at == place) * value for at in range(3)) for place in range(3) for value in (1, 2**63)]
    for n, oid in enumerate(oids):
        assert pool.put(oid, 0, page(n))
    assert [pool.get(oid, 0) for oid in oids] == [page(n) for n in range(len(oids))]


def test_an_object_has_the_same_calls(pool):
    handle = pool.object(OID)
    assert handle.get(0) is None and handle.get_into(0, bytearray(512)) == -1
    assert handle.flush_page(0) is False and handle.flush_object() is False
    assert handle.put(0, b"page") is True
    assert pool.get(OID, 0, free=False) == handle.get(0, free=False) == handle.get(0, False) == b"page"
    buffer = bytearray(512)
    assert handle.get_into(0, buffer, free=False) == 4 and buffer[:4] == b"page"
    assert handle.put_range(0, bytes(1024)) is True
    assert handle.get_range(0, 2, free=False) == handle.get_range(0, 2, False) == bytes(1024)
    assert handle.flush_page(0) is True
    assert handle.flush_object() is True
    assert handle.get(1, free=True) is None


def test_arguments_by_keyword(pool):
    assert pool.put(oid=OID, index=0, data=b"a")
    assert pool.get(oid=OID, index=0, free=False) == b"a"
    assert pool.get_into(oid=OID, index=0, buffer=bytearray(512), free=False) == 1
    assert pool.put_range(oid=OID, index=0, buffer=b"b")
    assert pool.get_range(oid=OID, index=0, count=1, free=False) == b"b"
    assert pool.object(oid=OID).put(index=1, data=b"c")
    assert pool.object_info(oid=OID)[0] == 2 and pool.flush_page(oid=OID, index=0) and pool.flush_object(oid=OID)


@pytest.mark.parametrize("length", [1, 64, 400, 512])
def test_a_full_arena(make_arena, length):
    """A persistent pool that fills the arena: a refused put, overwrites that succeed, and room
    after a flush."""
    eng = make_arena(capacity="1MiB", max_workers=2, buckets=16)
    pool = eng.new_pool("p", persistent=True)
    count = 0
    while pool.put((count % 50, 0, 0), count, page(count, length)):
        count += 1
        assert count < 50_000
    assert count > 100
    assert pool.get((count % 50, 0, 0), count) is None
    for n in range(count):
        assert pool.get((n % 50, 0, 0), n) == page(n, length), n
    for n in range(count):
        assert pool.put((n % 50, 0, 0), n, page(n + 1, length)), f"overwrite of page {n} in a full arena"
        assert pool.get((n % 50, 0, 0), n) == page(n + 1, length)
    assert eng.stats()["total"]["puts_refused"] == 1
    assert eng.check().ok
    for n in range(0, count, 2):
        assert pool.flush_page((n % 50, 0, 0), n)
    for n in range(1, count, 2):
        assert pool.get((n % 50, 0, 0), n) == page(n + 1, length), n
    assert pool.put((1000, 0, 0), 0, page(1, length))
    assert eng.check().ok


def test_a_full_arena_refuses_a_longer_overwrite_and_empties_the_handle(make_arena):
    eng = make_arena(capacity="1MiB", max_workers=2, buckets=16)
    pool = eng.new_pool("p", persistent=True)
    count = 0
    while pool.put((0, 0, 0), count, page(count, 64)):
        count += 1
    answers = {pool.put((0, 0, 0), n, page(n, 512)) for n in range(count)}
    for n in range(count):
        assert pool.get((0, 0, 0), n) in (None, page(n, 512)), f"page {n}: the older content"
    assert answers <= {True, False} and eng.check().ok


def test_coherency_after_a_refused_put(make_arena):
    eng = make_arena(capacity="1MiB", max_workers=2, buckets=16)
    pool = eng.new_pool("p", persistent=False)
    for n in range(6000):
        if pool.put((n % 9, 0, 0), n % 3000, page(n, 500)):
            assert pool.get((n % 9, 0, 0), n % 3000) in (None, page(n, 500))
        else:
            assert pool.get((n % 9, 0, 0), n % 3000) is None
    assert eng.check().ok


def test_engine_is_imported_under_its_public_names():
    public = {"Engine", "Pool", "TmemError", "create", "attach", "unlink", "oid", "register_pam", "register_hostops"}
    assert public <= set(engine.__all__) and all(hasattr(engine, name) for name in engine.__all__)
