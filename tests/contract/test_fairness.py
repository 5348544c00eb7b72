"""Owns the promise that who puts into one object without a pause does not keep others from reading
it.

A reader without the lock finds the page changed under it again and again, and then has to get the
lock from a writer that takes it back at once. Counted in operations: so many gets see something new
before the writer has done so many puts.
"""
import multiprocessing

import pytest

from tests.support import page

OID = (1, 2, 3)
PAGES = 16
PUTS_MAX = 20_000_000           # the writer gives up
NEWS = 100                      # gets that see other content than the one before; so the two do work at the same time
GET = {
    "get": lambda pool, buffer: pool.get(OID, 3),
    "get_into": lambda pool, buffer: buffer[:pool.get_into(OID, 3, buffer)],
    "get_range": lambda pool, buffer: pool.get_range(OID, 0, PAGES),
    "get_range_into": lambda pool, buffer: buffer[:pool.get_range_into(OID, 0, PAGES, buffer)],
    "get_many": lambda pool, buffer: b"".join(pool.get_many([(OID, n) for n in range(PAGES)])),
}


def hammer(pool, started, stop, puts):
    """Put the same pages without a pause until told to stop: how often, in `puts`."""
    thing = pool.object(OID)
    pages = [page(n, 512) for n in range(100)]
    for n in range(PUTS_MAX):
        thing.put(n % PAGES, pages[n % 100])
        if n == 1000:
            started.set()
        if n % 256 == 0 and stop.is_set():
            break
    puts.value = n + 1


@pytest.mark.parametrize("verb", GET)
def test_a_reader_beside_a_writer_that_never_rests(eng, verb):
    pool = eng.new_pool("p", persistent=True)
    assert pool.put_range(OID, 0, b"".join(page(n, 512) for n in range(PAGES)))
    context = multiprocessing.get_context("fork")
    started, stop, puts = context.Event(), context.Event(), context.Value("Q", 0)
    writer = context.Process(target=hammer, args=(pool, started, stop, puts))
    writer.start()
    started.wait()
    buffer, last, gets, news = bytearray(PAGES * 512), b"", 0, 0
    while news < NEWS:
        data = bytes(GET[verb](pool, buffer))
        gets += 1
        news += data != last
        last = data
        # Each page is whole: one number over and over.
        assert data and all(data[at:at + 8] * 64 == data[at:at + 512] for at in range(0, len(data), 512))
    stop.set()
    writer.join()
    assert writer.exitcode == 0 and puts.value < PUTS_MAX
    print(f"{gets} calls of {verb}, {NEWS} of them with news, while a writer put {puts.value} pages")
