"""Owns what may be put from and got into: every kind of buffer, as long as its bytes lie one after
the other and there are some.

What is read is what `bytes` would make of it; what is written to is written in place, and nothing
else of it.
"""
import array
import ctypes
import mmap
import tempfile

import numpy
import pytest

import engine
from tests.support import DictPam, page

OID = (1, 2, 3)
PAGE = 512
CODECS = ["raw", "lz4", "zstd"]


def mapped(length):
    with tempfile.TemporaryFile() as file:
        file.truncate(length)
        return mmap.mmap(file.fileno(), length)


class Record(ctypes.Structure):
    _fields_ = [("a", ctypes.c_uint64), ("b", ctypes.c_char * 56)]


# Writable buffers of 1024 bytes, by what they are.
BUFFERS = {
    "bytearray": lambda: bytearray(1024),
    "memoryview": lambda: memoryview(bytearray(3000))[100:1124],
    "memoryview of words": lambda: memoryview(bytearray(1024)).cast("I"),
    "memoryview of two dimensions": lambda: memoryview(bytearray(1024)).cast("B", (32, 32)),
    "array.array": lambda: array.array("d", bytes(1024)),
    "mmap": lambda: mapped(1024),
    "ctypes array": lambda: (ctypes.c_uint16 * 512)(),
    "ctypes structures": lambda: (Record * 16)(),
    "numpy bytes": lambda: numpy.zeros(1024, numpy.uint8),
    "numpy of three dimensions": lambda: numpy.zeros((2, 8, 16), numpy.float32),
    "numpy rows of a larger one": lambda: numpy.zeros((10, 512), numpy.uint8)[4:6],
    "numpy records": lambda: numpy.zeros(64, [("a", "u8"), ("b", "S8")]),
    "numpy transposed twice": lambda: numpy.zeros((32, 32), numpy.uint8).T.T,
    "numpy of one element": lambda: numpy.zeros((), "S1024"),
}


def addressed(buffer):
    """The bytes of a buffer, to read and to write."""
    return (
        memoryview(buffer).cast("B")
        if not isinstance(buffer, numpy.ndarray) or buffer.ndim
        else memoryview(buffer.reshape(1)).cast("B")
    )


def of_bytes(kind, data):
    """A buffer of this kind with this content."""
    made = BUFFERS[kind]()
    ctypes.memmove((ctypes.c_char * 1024).from_buffer(made), data, 1024)
    return made


@pytest.fixture(params=CODECS)
def pool(request, eng):
    return eng.new_pool("p", pam=request.param)


@pytest.mark.parametrize("kind", BUFFERS)
def test_put_from(pool, kind):
    data = page(7, 1000) + b"x" * 24
    buffer = of_bytes(kind, data)
    assert pool.put_range(OID, 0, buffer) and pool.get_range(OID, 0, 2) == data
    half = memoryview(bytes(of_bytes(kind, data)))[:PAGE]
    assert pool.put(OID, 5, half) and pool.get(OID, 5) == data[:PAGE]
    with pytest.raises(ValueError, match="^data: 0 to 512 bytes, not 1024"):
        pool.put(OID, 5, buffer)
    with pytest.raises(ValueError, match=r"^pages\[1\]: 0 to 512 bytes, not 1024"):
        pool.put_many([(OID, 6), (OID, 7)], [b"x", buffer])
    assert pool.object_info(OID)[0] == 3


@pytest.mark.parametrize("kind", BUFFERS)
def test_get_into(pool, kind):
    data = page(8, 1024)
    assert pool.put_range(OID, 0, data)
    buffer = of_bytes(kind, b"\xaa" * 1024)
    assert pool.get_range_into(OID, 0, 2, buffer) == 1024 and bytes(addressed(buffer)) == data
    buffer = of_bytes(kind, b"\xaa" * 1024)
    assert pool.get_into(OID, 1, buffer) == PAGE and bytes(addressed(buffer)) == data[PAGE:] + b"\xaa" * PAGE
    assert pool.get_range_into(OID, 0, 1, buffer) == PAGE and bytes(addressed(buffer)) == data[:PAGE] + b"\xaa" * PAGE
    assert pool.get_range_into(OID, 0, 3, buffer) == -1 and pool.get_range_into((9, 9, 9), 0, 1, buffer) == -1
    assert pool.object(OID).get_range_into(0, 2, buffer) == 1024 and bytes(addressed(buffer)) == data


def test_pages_are_rows(pool):
    """An array of two dimensions is a sequence of pages."""
    pages = numpy.arange(20 * 64, dtype=numpy.uint64).reshape(20, 64)
    assert pool.put_many([(OID, n) for n in range(20)], pages) == [True] * 20
    assert pool.object(OID).put_many(range(20, 40), pages[::-1]) == [True] * 20
    found = pool.get_many([(OID, n) for n in range(40)])
    assert b"".join(found) == pages.tobytes() + pages[::-1].tobytes()
    whole = numpy.zeros_like(pages)
    assert pool.get_range_into(OID, 0, 20, whole) == pages.nbytes and (whole == pages).all()


def test_a_single_number_of_numpy_is_a_page(pool):
    assert pool.put(OID, 0, numpy.float64(1.5)) and pool.get(OID, 0) == numpy.float64(1.5).tobytes()
    assert pool.put_many([(OID, 1)], [numpy.array(7, numpy.uint32)]) == [True]
    number = numpy.array(0, numpy.uint32)
    assert pool.get_into(OID, 1, number) == 4 and number == 7
    number[()] = 0
    assert pool.get_range_into(OID, 1, 1, number) == 4 and number == 7


SCATTERED = {
    "memoryview": lambda: memoryview(bytearray(1024))[::2],
    "numpy columns": lambda: numpy.zeros((16, 64), numpy.uint8)[:, 3],
    "numpy by columns": lambda: numpy.zeros((16, 16), numpy.uint8, order="F"),
    "numpy transposed": lambda: numpy.zeros((16, 8), numpy.uint8).T,
    "numpy backwards": lambda: numpy.zeros(100, numpy.uint8)[::-1],
}
EMPTY = {
    "bytes": lambda: b"",
    "bytearray": bytearray,
    "array": lambda: array.array("I"),
    "numpy": lambda: numpy.zeros(0),
    "numpy of no rows": lambda: numpy.zeros((0, 4)),
    "ctypes": lambda: (ctypes.c_char * 0)(),
    "memoryview": lambda: memoryview(b"abc")[2:2],
}


@pytest.mark.parametrize("kind", SCATTERED)
def test_bytes_that_do_not_lie_one_after_the_other(pool, kind):
    assert pool.put(OID, 0, b"untouched")
    for name, call in {
        "data": lambda b: pool.put(OID, 0, b), "buffer": lambda b: pool.put_range(OID, 0, b),
        r"pages\[1\]": lambda b: pool.put_many([(OID, 0), (OID, 0)], [b"x", b]),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: a contiguous buffer"):
            call(SCATTERED[kind]())
    for call in (lambda b: pool.get_into(OID, 0, b), lambda b: pool.get_range_into(OID, 0, 1, b)):
        with pytest.raises(ValueError, match="^buffer: a writable, contiguous buffer"):
            call(SCATTERED[kind]())
    assert pool.get(OID, 0) == b"untouched"


@pytest.mark.parametrize("kind", EMPTY)
def test_no_bytes(pool, kind):
    """An empty page is a page; a range has at least one."""
    puts = (lambda b: pool.put(OID, 0, b), lambda b: pool.put_many([(OID, 0)], [b]) == [True])
    for put in puts:
        assert pool.put(OID, 0, b"replaced") and put(EMPTY[kind]())
        assert pool.get(OID, 0, free=False) == b"" and pool.object_info(OID)[0] == 1
        assert pool.get_range(OID, 0, 1, free=False) == b"" and pool.get_many([(OID, 0)], free=False) == [b""]
        assert pool.get_into(OID, 0, bytearray(b"longer"), free=False) == 0
        with pool.view(OID, 0) as page:
            assert page.nbytes == 0
        assert pool.get(OID, 0, free=True) == b"" and pool.get(OID, 0) is None
    assert pool.put(OID, 0, b"untouched")
    with pytest.raises(ValueError, match="^buffer: 1 to"):
        pool.put_range(OID, 0, EMPTY[kind]())
    if kind not in ("bytes", "memoryview"):
        for call in (lambda b: pool.get_into(OID, 0, b), lambda b: pool.get_range_into(OID, 0, 1, b)):
            with pytest.raises(ValueError, match="^buffer: at least as long as the page"):
                call(EMPTY[kind]())
    assert pool.get(OID, 0) == b"untouched"
    assert pool.engine.check().ok


def read_only():
    frozen = numpy.zeros(1024, numpy.uint8)
    frozen.flags.writeable = False
    return [bytes(1024), memoryview(bytes(1024)), memoryview(bytearray(1024)).toreadonly(), frozen,
            mmap.mmap(-1, 1024, prot=mmap.PROT_READ)]


def test_read_only_buffers_are_to_put_from(pool):
    for buffer in read_only():
        assert pool.put_range(OID, 0, buffer) and pool.get_range(OID, 0, 2, free=False) == bytes(1024)
        for call in (lambda b: pool.get_into(OID, 0, b), lambda b: pool.get_range_into(OID, 0, 1, b)):
            with pytest.raises((ValueError, TypeError), match="^buffer: "):
                call(buffer)


@pytest.mark.parametrize("free", [None, False, True])
@pytest.mark.parametrize("pam", CODECS)
def test_a_range_into_a_buffer_that_is_too_short(eng, pam, free):
    pool = eng.new_pool("p", shared=False, pam=pam)
    pages = [page(1, PAGE), page(2, PAGE), page(3, 100)]
    assert pool.put_range(OID, 4, b"".join(pages))
    for short in (1, 100, PAGE, 2 * PAGE + 99):
        with pytest.raises(ValueError, match=f"^buffer: at least as long as the pages, 1124 bytes, not {short}"):
            pool.get_range_into(OID, 4, 3, bytearray(short), free)
    buffer = bytearray(b"\xaa" * 1200)
    assert pool.get_range_into(OID, 4, 3, buffer, free) == 1124 and buffer == b"".join(pages) + b"\xaa" * 76
    assert pool.get_range_into(OID, 4, 3, buffer, free) == (1124 if free is False else -1)
    assert eng.check().ok


def test_ranges_are_not_for_foreign_pages(eng):
    engine.register_pam("dict", DictPam)
    with pytest.raises(engine.TmemError, match="dict"):
        eng.new_pool("p", pam="dict").get_range_into(OID, 0, 1, bytearray(PAGE))


@pytest.mark.parametrize("data, way", [
    (bytes(513), "put_range"), (bytearray(513), "put_object takes more"),
])
def test_a_wrong_length_names_the_way_out(eng, data, way):
    pool = eng.new_pool("p")
    for call in (
        lambda: pool.put(OID, 0, data),
        lambda: pool.object(OID).put(0, data),
        lambda: pool.put_many([(OID, 0)], [data]),
    ):
        with pytest.raises(ValueError, match=f"0 to 512 bytes, not {len(data)}.*{way}"):
            call()
