"""Owns what far tiers promise, by the names of the promises; docs/far.md says them to users."""
import os
import threading

import pytest

import engine
from engine.far.file import FileTier
from tests.contract.fars import (
    PAGE,
    assert_sound,
    content,
    far_ones,
    fill,
    fresh_dict_tier,
    get,
    stats,
)
from tests.stopped import fork

PAGES = 1100


@pytest.fixture
def kind(monkeypatch):
    return fresh_dict_tier(monkeypatch)


@pytest.fixture
def pool(make_arena, kind):
    """A pool of which about a third of PAGES pages is far."""
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    found = eng.new_pool("p", far="dict:", localify=False)
    fill(found, PAGES)
    return found


@pytest.fixture
def filed(make_arena, tmp_path):
    """The same with a file."""
    found = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4).new_pool(
        "p", far=f"file://{tmp_path}/far?size=16MiB")
    fill(found, PAGES)
    return found


def place(pool):
    return pool.far.removeprefix("file://").partition("?")[0]


# --- the invariants -------------------------------------------------------------------------------


def test_1_the_descriptor_is_the_authority(pool, kind):
    """A miss asks nobody; a page is asked for by the one name that its descriptor has now."""
    kind.asked.clear()
    assert pool.get((7777, 0, 0), 0) is None and pool.get((0, 0, 0), 999) is None
    assert not kind.asked
    n = far_ones(pool, kind, PAGES)[0]
    kind.asked.clear()
    assert get(pool, n) == content(n)
    assert [verb for verb, _ in kind.asked] == ["get"] and len(kind.asked[0][1]) == 1
    assert pool.flush_page((n // 16, 0, 0), n % 16)
    kind.asked.clear()
    assert get(pool, n) is None
    assert not kind.asked


def test_2_names_are_never_used_twice(pool, kind):
    """Also where a page is put, spilled, flushed and put again: DictTier would say so."""
    for version in range(1, 4):
        for n in range(0, PAGES, 2):
            pool.flush_page((n // 16, 0, 0), n % 16)
        for n in range(0, PAGES, 2):
            assert pool.put((n // 16, 0, 0), n % 16, content(n, version))
            if n % 32 == 30:
                pool.engine.spill()
        for n in range(PAGES):
            assert get(pool, n) in (None, content(n, 0 if n % 2 else version))


def test_2_two_arenas_have_no_name_in_common(make_arena, kind):
    for _ in range(2):
        fill(make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False).new_pool("p", far="dict:"), PAGES)
    assert len({name[:8] for name in kind.kept}) == 2


@pytest.mark.parametrize("change", ["over", "flush", "hit"])
def test_3_a_page_is_far_only_after_the_tier_has_it_and_if_it_is_still_the_same(make_arena, kind, change):
    """ABA: put over, or flushed and put again, between the tier's answer and the swap."""
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False).new_pool("p", far="dict:")
    kind.deaf = True
    for n in range(700):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
    there = [n for n in range(700) if get(pool, n) is not None]
    assert pool.engine.spill() == 0 and stats(pool)["far_pages"] == 0         # not acknowledged: local

    def meddle(verb, names):
        kind.before = None
        for n in there:
            if change == "hit":
                assert get(pool, n) == content(n)
                continue
            if change == "flush":
                assert pool.flush_page((n // 16, 0, 0), n % 16)
            assert pool.put((n // 16, 0, 0), n % 16, content(n, 1))
    kind.deaf = False
    kind.before = meddle
    pool.engine.spill()
    for n in there:
        assert get(pool, n) in (None, content(n, change != "hit"))
    if change != "hit":
        assert stats(pool)["far_stale_swaps"] >= 16
    assert_sound(pool.engine)


def test_a_pool_that_is_destroyed_while_it_is_spilled(make_arena, kind):
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False).new_pool("p", far="dict:")
    for n in range(700):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))

    def meddle(verb, names):
        kind.before = None
        pool.destroy()
    kind.before = meddle
    assert pool.engine.spill() == 0 and not pool.engine.pools()
    assert pool.engine.spill() == 0
    assert_sound(pool.engine)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("size", [4096, 65536])
def test_as_much_leaves_as_the_reserve_lacks(make_arena, kind, size, whole):
    """By bytes: sixteen times as long pages are not as many."""
    capacity = 24 << 20
    eng = make_arena(page_size=size, capacity=capacity, huge_pages=False)
    pool = eng.new_pool("p", far="dict:", whole=whole)
    spilled = []
    for n in range(3 * capacity // 2 // size):
        assert pool.put((n // 16, 0, 0), n % 16, n.to_bytes(4, "little") + bytes(range(1, 256)) * (size // 256 - 1))
        if n % (capacity // 64 // size) == 0:
            spilled.append(eng.spill())
    assert stats(pool)["far_skipped"] == 0 < sum(spilled)
    assert max(spilled) * size < capacity / 10


@pytest.mark.parametrize("far", [True, False])
def test_a_pool_whose_place_another_takes_while_it_is_written(make_arena, tmp_path, monkeypatch, far):
    """It is gone, and nothing is wrong with the arena; the other has its own record of a tier."""
    eng = make_arena(page_size=PAGE, capacity="16MiB", huge_pages=False, shards=4)
    target = f"file://{tmp_path}/%s?size=16MiB"
    pool, n = eng.new_pool("p", far=target % "p"), 0
    while stats(pool)["evicted"] == 0:
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
        n += 1
    begun, others = [], []
    begin_put, end_put = FileTier.begin_put, FileTier.end_put

    def begin(tier, batch):
        begun.append(tier)
        return begin_put(tier, batch)

    def end(tier):
        done = end_put(tier)
        if not others:
            pool.destroy()
            others.append(eng.new_pool("q", far=target % "q" if far else None))
        return done
    monkeypatch.setattr(FileTier, "begin_put", begin)
    monkeypatch.setattr(FileTier, "end_put", end)
    assert eng.spill() == 0 and len(begun) == 1
    other, = others
    assert other.put((1, 0, 0), 0, content(1)) and other.get((1, 0, 0), 0) == content(1)
    assert_sound(eng)


@pytest.mark.parametrize("change", ["over", "flush", "destroy", "clear"])
def test_4_bytes_are_given_out_only_if_the_descriptor_is_the_same_afterwards(pool, kind, change):
    """ABA, the other way: between the tier's answer and the second look."""
    n = far_ones(pool, kind, PAGES)[0]

    def meddle(verb, names):
        kind.before = None
        if change == "over":
            assert pool.put((n // 16, 0, 0), n % 16, content(n, 1))
        elif change == "flush":
            assert pool.flush_page((n // 16, 0, 0), n % 16)
        elif change == "clear":
            pool.clear()
        else:
            pool.destroy()
    kind.before = meddle
    if change == "destroy":
        with pytest.raises(engine.PoolDestroyed):
            get(pool, n)
    else:
        assert get(pool, n) == (content(n, 1) if change == "over" else None)
    assert_sound(pool.engine)


def test_5_a_get_does_not_destroy_what_is_far(pool, kind):
    """Twice the same; and one that takes the page away has its bytes before."""
    n = far_ones(pool, kind, PAGES)[0]
    assert get(pool, n) == get(pool, n) == content(n)
    kind.deaf = True
    assert get(pool, n, free=True) is None
    kind.deaf = False
    assert get(pool, n, free=True) == content(n)
    assert get(pool, n) is None


def test_6_nothing_waits_while_a_tier_is_asked(pool, kind):
    """Another thread of the engine, and a check that stops the world, in the middle of a get."""
    n = far_ones(pool, kind, PAGES)[0]
    done = []

    def others():
        assert pool.put((9999, 0, 0), 0, b"meanwhile" * 9) and pool.get((9999, 0, 0), 0) == b"meanwhile" * 9
        done.append(pool.engine.check(frozen=True).ok)

    def meddle(verb, names):
        kind.before = None
        thread = threading.Thread(target=others)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    kind.before = meddle
    assert get(pool, n) == content(n)
    assert done == [True]


@pytest.mark.parametrize("poison", [lambda value: value[:-1], lambda value: value[:-9] + b"!" + value[-8:],
                                    lambda value: bytes(len(value)), lambda value: b"", lambda value: None])
def test_7_what_is_not_the_page_is_a_miss(pool, kind, poison):
    n = far_ones(pool, kind, PAGES)[0]
    before = stats(pool)["far_pages"]
    for name in kind.kept:
        kind.kept[name] = poison(kind.kept[name])
    assert get(pool, n) is None
    assert stats(pool)["far_pages"] == before - 1 and stats(pool)["far_misses_gone"] >= 1
    kind.asked.clear()
    assert get(pool, n) is None
    assert not kind.asked


def test_7_another_pages_bytes_are_a_miss(pool, kind):
    one, two = far_ones(pool, kind, PAGES)[:2]
    for n in (one, two):
        kind.asked.clear()
        get(pool, n)
        name = kind.asked[0][1][0]
        if n == one:
            first = name
    kind.kept[first], kind.kept[name] = kind.kept[name], kind.kept[first]
    assert get(pool, one) is None and get(pool, two) is None
    assert stats(pool)["checksum_bad"] == 2


def test_a_tier_that_does_not_answer_is_a_miss_and_nothing_is_lost(pool, kind):
    n = far_ones(pool, kind, PAGES)[0]
    kind.deaf = True
    assert get(pool, n) is None and stats(pool)["far_failed"] == 1
    kind.deaf = False
    assert get(pool, n) == content(n)


# --- every verb meets far pages -------------------------------------------------------------------


def test_gets_of_all_kinds(pool, kind):
    far = far_ones(pool, kind, PAGES)
    n = far[0]
    room = bytearray(PAGE)
    assert pool.get_into((n // 16, 0, 0), n % 16, room) == len(content(n)) and room.startswith(content(n))
    with pytest.raises(ValueError, match="buffer"):
        pool.get_into((n // 16, 0, 0), n % 16, bytearray(10))
    with pool.view((n // 16, 0, 0), n % 16) as page:
        assert bytes(page) == content(n)
    wanted = [((m // 16, 0, 0), m % 16) for m in range(PAGES)]
    assert pool.get_many(wanted) == [pool.get(*handle) for handle in wanted]
    assert pool.object_info((n // 16, 0, 0)) is not None


def test_ranges(pool, kind):
    n = far_ones(pool, kind, PAGES)[0] // 16 * 16
    whole = b"".join(content(m) for m in range(n, n + 16))
    assert pool.get_range((n // 16, 0, 0), 0, 16) == whole
    room = bytearray(len(whole))
    assert pool.get_range_into((n // 16, 0, 0), 0, 16, room) == len(whole) and room == whole
    with pool.view((n // 16, 0, 0), 0, 16) as pages:
        assert b"".join(pages) == whole

    def meddle(verb, names):
        kind.before = None
        assert pool.put((n // 16, 0, 0), 3, b"other")
    kind.before = meddle
    assert b"other" in pool.get_range((n // 16, 0, 0), 0, 16)
    with pytest.raises(ValueError, match="buffer"):
        pool.get_range_into((n // 16, 0, 0), 0, 16, bytearray(10), free=True)
    assert len(pool.get_range((n // 16, 0, 0), 0, 16, free=True)) > 15 * 4000
    assert pool.object_info((n // 16, 0, 0)) is None
    assert_sound(pool.engine)


def test_a_range_put_over_far_pages(pool, kind):
    n = far_ones(pool, kind, PAGES)[0] // 16 * 16
    data = os.urandom(16 * PAGE)
    assert pool.put_range((n // 16, 0, 0), 0, data)
    assert pool.get_range((n // 16, 0, 0), 0, 16) == data
    assert pool.flush_object((n // 16, 0, 0))
    assert_sound(pool.engine)


@pytest.mark.parametrize("pam", ["raw", "zstd"])
def test_values(make_arena, kind, pam):
    if pam == "zstd":
        pytest.importorskip("zstandard")
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False).new_pool("p", far="dict:", pam=pam)

    def value(n):
        return os.urandom(700) + b"x" * 5000 + b"%d" % n
    values = {}
    for n in range(1600 if pam == "raw" else 4000):
        values[n] = value(n)
        assert pool.put_object((n, 0, 0), values[n], key=b"key %d" % n, word=n, ttl=1000)
        if n % 32 == 31:
            pool.engine.spill()
    assert stats(pool)["far_pages"] > 100
    versions = {}
    for n in values:
        found = pool.get_object((n, 0, 0), info=True)
        if found is None:
            continue
        assert found[0] == values[n] and (found[1].key, found[1].word) == (b"key %d" % n, n)
        versions[n] = found[1].version
        assert pool.has((n, 0, 0)) and pool.expires((n, 0, 0)) > 900
    room = bytearray(6000)
    some = [n for n in sorted(versions)[:40]]
    for n in some:
        assert pool.get_object_into((n, 0, 0), room) == len(values[n])
        with pool.view_object((n, 0, 0)) as page:
            assert bytes(page) == values[n]
        assert pool.touch((n, 0, 0), 2000)
        assert not pool.put_object((n, 0, 0), b"new", if_version=versions[n] + 1)
        assert pool.put_object((n, 0, 0), b"new", if_version=versions[n])
        assert pool.get_object((n, 0, 0)) == b"new"
    assert {info.oid[0] for info in pool.objects()} >= set(versions)
    assert_sound(pool.engine)


def test_a_tier_is_told_how_long_a_page_may_live(make_arena, kind):
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False).new_pool("p", far="dict:")
    for n in range(900):
        if n % 3 == 0:
            assert pool.put_object((n, 1, 0), content(n), ttl=1000)         # a lean one
        elif n % 3 == 1:
            assert pool.put_object((n // 32, 2, 0), content(n) * 3)
        else:
            assert pool.put((n // 48, 3, 0), n % 16, content(n))
        if n % 32 == 31:
            pool.engine.spill()
    lives = set(kind.lives.values())
    assert 0 in lives and any(lives) and all(ttl == 0 or 900_000 < ttl <= 1_000_000 for ttl in lives)


def test_a_count_beside_far_pages(pool):
    assert pool.incr((5000, 0, 0), 3) == 3
    fill(pool, 320, start=20000)
    assert pool.incr((5000, 0, 0), 4) in (4, 7)


def test_long_pages_leave_in_one_piece(make_arena, kind):
    pool = make_arena(page_size=PAGE, capacity="8MiB", huge_pages=False).new_pool("p", far="dict:", page_size="256KiB")
    for n in range(60):
        assert pool.put((n, 0, 0), 0, b"%d " % n * 80000)
        pool.engine.spill()
    assert stats(pool)["far_pages"] > 10
    assert all(pool.get((n, 0, 0), 0) in (None, b"%d " % n * 80000) for n in range(60))
    assert_sound(pool.engine)


def test_what_is_viewed_stays(make_arena, kind):
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, max_pinned="1MiB").new_pool("p", far="dict:")
    for n in range(100):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
    views = [pool.view((n // 16, 0, 0), n % 16) for n in range(100)]
    for n in range(100, PAGES):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
        if n % 32 == 31:
            pool.engine.spill()
    for n, view in enumerate(views):
        with view as page:
            assert bytes(page) == content(n)
    assert_sound(pool.engine)


def test_equal_pages_do_not_leave(make_arena, kind):
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False).new_pool("p", far="dict:", dedup=True)
    for n in range(PAGES):
        assert pool.put((n // 16, 0, 0), n % 16, content(n // 2))
        if n % 32 == 31:
            pool.engine.spill()
    for n in range(PAGES):
        assert get(pool, n) in (None, content(n // 2))
    assert_sound(pool.engine)


def test_memory_that_moves(pool, kind):
    far = far_ones(pool, kind, PAGES)
    pool.engine.resize("2MiB")
    assert_sound(pool.engine)
    for n in far:
        assert get(pool, n) in (None, content(n))
    pool.engine.resize("3MiB")
    assert_sound(pool.engine)


def test_a_repair_keeps_far_pages(pool, kind):
    far = far_ones(pool, kind, PAGES)
    report = pool.engine.check(repair=True)
    assert not report.lost
    assert all(get(pool, n) == content(n) for n in far)
    assert stats(pool)["far_pages"] == len(far)


# --- bounds, and what is dead ---------------------------------------------------------------------


def test_far_pages_are_bounded(make_arena, kind):
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far="dict:", far_max=200)
    for n in range(3000):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
        if n % 32 == 31:
            pool.engine.spill()
    assert 100 <= stats(pool)["far_pages"] <= 200
    assert_sound(pool.engine)


@pytest.mark.parametrize("pam", ["raw", "zstd"])
def test_far_pages_are_bounded_in_bytes(make_arena, kind, pam):
    """As they are stored: of a pool that compresses there are more."""
    if pam == "zstd":
        pytest.importorskip("zstandard")
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far="dict:", far_max="400KiB", pam=pam)
    for n in range(4000):
        assert pool.put((n // 16, 0, 0), n % 16, os.urandom(1000) + content(n)[1000:])
        if n % 32 == 31:
            pool.engine.spill()
    assert 300 << 10 <= stats(pool)["far_bytes"] <= 400 << 10
    assert (stats(pool)["far_pages"] > 150) == (pam == "zstd")
    assert_sound(pool.engine)


def test_the_tier_hears_of_what_is_dead(pool, kind):
    """Flushed, put over, and their pool cleared: the names go, a round later."""
    far = far_ones(pool, kind, PAGES)
    for n in far[::2]:
        assert pool.flush_page((n // 16, 0, 0), n % 16)
    for n in far[1::2]:
        assert pool.put((n // 16, 0, 0), n % 16, content(n, 1))
    for _ in range(10):
        pool.engine.tend()
    assert len(kind.kept) == stats(pool)["far_pages"]


def test_no_page_goes_for_its_descriptor(make_arena, tmp_path):
    """In an arena that was full of pages before any was far: chunks of theirs become free, but a
    put needs a descriptor, too."""
    eng = make_arena(page_size=PAGE, capacity="32MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far=f"file://{tmp_path}/far?size=128MiB")
    for n in range(8192):
        assert pool.put((n // 64, 0, 0), n % 64, b"%d" % n * 700)
    before = stats(pool)["evicted"]
    for n in range(8192, 16384):
        assert pool.put((n // 64, 0, 0), n % 64, b"%d" % n * 700)
        if n % 128 == 127:
            eng.spill()
    assert stats(pool)["evicted"] - before < 600
    assert_sound(eng)


def test_what_would_go_before_it_is_far_is_not_chosen(make_arena, kind):
    """Where puts are faster than the tier: after a first batch pages further from the end leave."""
    eng = make_arena(page_size=PAGE, capacity="8MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far="dict:")
    batches = 0

    def put(start, pages):
        for n in range(start, start + pages):
            assert pool.put((n, 0, 0), 0, content(n))

    def meddle(verb, names):
        nonlocal batches
        if verb == "put":
            put(2000 + 120 * batches, 120)
            batches += 1
    put(0, 2000)
    kind.before = meddle
    while batches < 24:
        eng.spill()
    assert stats(pool)["spilled"] > 3 * stats(pool)["far_stale_swaps"]


def test_without_a_spiller_pages_go_as_ever(make_arena, kind):
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False).new_pool("p", far="dict:")
    for n in range(PAGES):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
    assert stats(pool)["far_skipped"] == stats(pool)["evicted"] > 0 and not kind.asked


def test_descriptors_go_when_nothing_else_can(pool):
    """A pool that may not lose anything takes the whole arena."""
    kept = pool.engine.new_pool("kept", persistent=True)
    n = 0
    while kept.put((n, 1, 0), 0, content(n)):
        n += 1
    assert stats(pool)["far_pages"] == 0 and n > 500
    assert_sound(pool.engine)


# --- the file -------------------------------------------------------------------------------------


def test_a_file(filed):
    there = [n for n in range(PAGES) if get(filed, n) is not None]
    assert len(there) == PAGES and all(get(filed, n) == content(n) for n in there)
    assert stats(filed)["far_hits"] > 500 and stats(filed)["checksum_bad"] == 0
    assert_sound(filed.engine)


def test_a_file_is_used_over_and_over(make_arena, tmp_path):
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far=f"file://{tmp_path}/far?size=5MiB")
    for n in range(4000):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
        if n % 32 == 31:
            pool.engine.spill()
    for n in range(4000):
        assert get(pool, n) in (None, content(n))
    assert stats(pool)["far_pages"] < 1100
    assert_sound(pool.engine)


@pytest.mark.parametrize("harm", ["zeroes", "short", "mixed"])
def test_a_file_that_is_damaged(filed, harm):
    size = os.path.getsize(place(filed))
    with open(place(filed), "r+b") as file:
        if harm == "short":
            file.truncate(4096)
        elif harm == "zeroes":
            file.seek(4096)
            file.write(bytes(size - 4096))
        else:
            file.seek(4096)
            data = file.read()
            file.seek(4096)
            file.write(data[8:] + data[:8])
    for n in range(PAGES):
        assert get(filed, n) in (None, content(n))
    assert stats(filed)["far_pages"] == 0
    assert_sound(filed.engine)


def test_a_forked_child_writes_over_nothing_of_its_parents(filed):
    """Each fills a region of its own, though the child begins with what its parent knew."""
    def go_on(start, pages):
        for n in range(start, start + pages):
            assert filed.put((n, 1, 0), 0, content(n))
            if n % 32 == 31:
                filed.engine.spill()

    read, write = os.pipe()

    def child():
        os.read(read, 1)
        go_on(5000, 320)
    go_on(3000, 64)        # into the middle of one
    pid = fork(child)
    go_on(4000, 160)
    os.write(write, b"!")
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (read, write):
        os.close(fd)
    for n in range(PAGES):
        assert get(filed, n) == content(n)
    assert stats(filed)["checksum_bad"] == 0 and stats(filed)["far_hits"] > 500


def test_a_file_that_is_removed_and_made_anew(filed):
    """Who has it open goes on; who comes later is told, and does without."""
    os.unlink(place(filed))
    assert all(get(filed, n) == content(n) for n in range(PAGES))
    later = filed.engine.pool("p")
    assert "cannot be used" in later.far_trouble
    with open(place(filed), "wb") as file:
        file.write(bytes(16 << 20))
    later = filed.engine.pool("p")
    assert "not the one" in later.far_trouble
    assert any(get(later, n) is None for n in range(PAGES))
    assert all(get(filed, n) == content(n) for n in range(PAGES))         # a miss of the one loses nothing


def test_a_file_is_of_one_pool(filed, make_arena, tmp_path):
    other = make_arena(page_size=PAGE, capacity="2MiB", huge_pages=False)
    with pytest.raises(engine.TmemError, match="in use"):
        other.new_pool("p", far=filed.far)
    (tmp_path / "mine").write_bytes(b"what people keep")
    with pytest.raises(ValueError, match="no file of a far tier"):
        other.new_pool("p", far=f"file://{tmp_path}/mine?size=8MiB")
    assert (tmp_path / "mine").read_bytes() == b"what people keep"
    with pytest.raises(engine.TmemError, match="No such file"):
        other.new_pool("p", far=f"file://{tmp_path}/no/where?size=8MiB")
    with pytest.raises(engine.TmemError, match="No space left|too large|can be had"):
        other.new_pool("p", far=f"file://{tmp_path}/huge?size=900TiB")
    assert not other.pools()


@pytest.mark.parametrize("far", ["ftp://x", "file:///x/y", "file://host/x/y?size=8MiB", "file:///x/y?size=1KiB",
                                 "file:///x/y?size=8MiB&more=1", "file:///x/y?size=many", ""])
def test_targets_that_say_nothing(eng, far):
    with pytest.raises(ValueError, match="far"):
        eng.new_pool("p", far=far)


def test_arguments(eng, tmp_path, filed):
    far = f"file://{tmp_path}/other?size=8MiB"
    with pytest.raises(TypeError, match="far"):
        eng.new_pool("p", far=7)
    with pytest.raises(ValueError, match="ephemeral"):
        eng.new_pool("p", far=far, persistent=True)
    with pytest.raises(ValueError, match="far_max"):
        eng.new_pool("p", far_max=7)
    for most in (0, "0", "many", -1):
        with pytest.raises(ValueError, match="far_max"):
            eng.new_pool("p", far=far, far_max=most)
    with pytest.raises(TypeError, match="far_max"):
        eng.new_pool("p", far=far, far_max=1.5)
    assert filed.engine.pool("p", far=filed.far).far == filed.far
    with pytest.raises(ValueError, match="was made with"):
        filed.engine.pool("p", far=far)
