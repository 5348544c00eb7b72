"""Owns what holds of pages that are one word over and over: they come back like any other, and take
no chunk in an ephemeral pool."""
import random

import pytest

PAGE = 4096


@pytest.mark.parametrize("length", [16, 17, 23, 24, 100, 4000, 4095, 4096])
@pytest.mark.parametrize("word", [bytes(8), b"\xff" * 8, b"abcdefgh"])
def test_they_come_back(make_arena, length, word):
    eng = make_arena(page_size=PAGE)
    for pool in (eng.new_pool("shared"), eng.new_pool("private", shared=False), eng.new_pool("kept", persistent=True)):
        data = (word * PAGE)[:length]
        assert pool.put((1, 0, 0), 0, data) and pool.put((1, 0, 0), 9, data)
        stats = eng.stats()["pools"][pool.name]
        assert stats["bytes_asked"] == 2 * length and (stats["bytes_used"] == 0) is (not pool.persistent)
        buffer = bytearray(PAGE)
        assert pool.get_into((1, 0, 0), 0, buffer, free=False) == length and buffer[:length] == data
        assert pool.get((1, 0, 0), 0) == data and pool.get((1, 0, 0), 9, free=True) == data
        assert eng.check().ok


def test_nearly_the_same_is_another_page(make_arena):
    pool = make_arena(page_size=PAGE).new_pool("p")
    for at in (0, 1, 7, 8, 2048, 4088, 4095):
        data = bytearray(PAGE)
        data[at] = 1
        assert pool.put((1, 0, 0), at, data) and pool.get((1, 0, 0), at) == data


def test_more_of_them_than_the_arena_has_chunks(make_arena):
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p")
    for n in range(4000):
        assert pool.put((n // 64, 0, 0), n % 64, bytes(PAGE))
    assert eng.stats()["pools"]["p"]["pages"] == 4000
    assert all(pool.get((n // 64, 0, 0), n % 64) == bytes(PAGE) for n in range(4000))
    assert eng.check().ok


def test_over_and_under_others(make_arena):
    eng = make_arena(capacity="8MiB", page_size=PAGE)
    pool = eng.new_pool("p")
    rnd, model = random.Random(2), {}
    for _ in range(5000):
        index = rnd.randrange(60)
        data = rnd.choice((bytes(PAGE), b"\x07" * rnd.randrange(1, PAGE), rnd.randbytes(rnd.randrange(1, PAGE))))
        verb = rnd.randrange(5)
        if verb == 0:
            pool.flush_page((1, 0, 0), index)
            model.pop(index, None)
        elif verb == 1:
            assert pool.put_range((1, 0, 0), index, bytes(3 * PAGE))
            model.update({index + n: bytes(PAGE) for n in range(3)})
        else:
            assert pool.put((1, 0, 0), index, data)
            model[index] = data
        for at in {index, rnd.randrange(62)}:
            assert pool.get((1, 0, 0), at) == model.get(at)
    assert eng.stats()["pools"]["p"]["evicted"] == 0 and eng.check().ok
    got = pool.get_range((1, 0, 0), index, 3) if verb == 1 else None
    assert got in (None, bytes(3 * PAGE))


def test_old_same_filled_pages_do_not_keep_others_from_coming(make_arena):
    """They go like others when memory is short, also where all that is oldest is same-filled, and
    lies in no chunk."""
    eng = make_arena(capacity="1MiB", page_size=4096)
    pool = eng.new_pool("p")
    for n in range(2000):
        assert pool.put((1, 0, 0), n, bytes(4096))
    for n in range(2000, 4000):
        assert pool.put((1, 0, 0), n, b"%d/" % n * 800)
    assert pool.get((1, 0, 0), 3999) == b"3999/" * 800
    assert eng.check().ok
