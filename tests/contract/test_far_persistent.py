"""Owns what is promised of persistent pages in a far tier, by the names of the promises;
docs/far.md says them to users.
"""
import mmap
import os
import pickle
import struct

import pytest

import engine
from engine.eviction.policies import POLICIES
from engine.far.answers import FAILED
from engine.far.file import FileTier
from engine.frontends.frontswap import Frontswap
from tests.contract.fars import PAGE, assert_sound, content, far_ones, fill, fresh_dict_tier, get, stats

PAGES = 900
FAR = dict(far="dict:", persistent=True, far_persistent=True, localify=False)


@pytest.fixture
def kind(monkeypatch):
    return fresh_dict_tier(monkeypatch, durable=True)


@pytest.fixture
def arena(make_arena):
    return make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)


@pytest.fixture
def pool(arena, kind):
    """A persistent pool of PAGES pages, more than there is room for."""
    found = arena.new_pool("p", **FAR)
    fill(found, PAGES)
    return found


def handle(n):
    return (n // 16, 0, 0), n % 16


def spoil(kind, what):
    """Let the tier answer so for all it has; call the result to have it as it was."""
    before = dict(kind.kept)
    if what == "deaf":
        kind.deaf = True
    elif what == "gone":
        kind.kept.clear()
    else:
        kind.kept.update({name: bytes(len(value)) for name, value in before.items()})

    def mend():
        kind.deaf = False
        kind.kept.update(before)
    return mend


ERRORS = {"deaf": engine.FarUnavailable, "gone": engine.FarLost, "bad": engine.FarLost}
answers = pytest.mark.parametrize("what", list(ERRORS))


# --- which pools ----------------------------------------------------------------------------------


def test_arguments(arena, kind, tmp_path):
    file = f"file://{tmp_path}/far?size=8MiB"
    with pytest.raises(ValueError, match="far_persistent.*does not promise.*leave far_persistent out"):
        arena.new_pool("p", far=file, persistent=True, far_persistent=True)
    assert not os.listdir(tmp_path) and FileTier.durable is False
    with pytest.raises(ValueError, match="far: .*far_persistent=True"):
        arena.new_pool("p", far="dict:", persistent=True)
    with pytest.raises(ValueError, match="far_persistent.*persistent=True"):
        arena.new_pool("p", far="dict:", far_persistent=True)
    with pytest.raises(ValueError, match="far_persistent.*no `far`"):
        arena.new_pool("p", persistent=True, far_persistent=True)
    with pytest.raises(TypeError, match="far_persistent"):
        arena.new_pool("p", far="dict:", persistent=True, far_persistent=1)
    assert not arena.pools()


def test_a_tier_that_promises_nothing_under_this_target(arena, kind, monkeypatch):
    monkeypatch.setattr(kind, "durable", property(lambda tier: False))
    with pytest.raises(ValueError, match="far_persistent.*does not promise"):
        arena.new_pool("p", **FAR)
    assert not arena.pools()


def test_who_attaches_knows(pool):
    other = engine.attach(pool.engine.name)
    with other:
        found = other.pool("p")
        assert found.far_persistent and found.persistent and found.far == "dict:"
        assert not other.new_pool("q").far_persistent
        for n in range(0, PAGES, 7):
            assert get(found, n) == content(n)


def test_pages_go_to_the_tier_for_ever(pool, kind):
    """Whoever touches a value lets it live longer; the tier would not hear of it."""
    for n in range(500):
        assert pool.put_object((n, 1, 0), content(n), ttl=1000)
        if n % 32 == 31:
            pool.engine.spill()
    assert set(kind.lives.values()) == {0}


# --- what a get says ------------------------------------------------------------------------------


def test_all_pages_are_there(pool):
    assert stats(pool)["far_pages"] > PAGES // 4
    assert all(get(pool, n) == content(n) for n in range(PAGES))
    assert stats(pool)["evicted"] == stats(pool)["far_skipped"] == 0
    assert_sound(pool.engine)


def verbs(pool, n):
    """Every verb that needs the bytes of page n, which is page 0 of an object."""
    oid, index = handle(n)
    return {
        "get": lambda: pool.get(oid, index),
        "get, free": lambda: pool.get(oid, index, free=True),
        "get_into": lambda: pool.get_into(oid, index, bytearray(PAGE)),
        "get_range": lambda: pool.get_range(oid, index, 3),
        "get_range, free": lambda: pool.get_range(oid, index, 3, free=True),
        "get_range_into": lambda: pool.get_range_into(oid, index, 3, bytearray(3 * PAGE)),
        "view": lambda: pool.view(oid, index),
        "view of a range": lambda: pool.view(oid, index, 3),
        "get_many": lambda: pool.get_many([(oid, index)]),
        "get_object": lambda: pool.get_object(oid),
        "get_object_into": lambda: pool.get_object_into(oid, bytearray(32 * PAGE)),
        "view_object": lambda: pool.view_object(oid),
        "incr": lambda: pool.incr(oid),
    }


@answers
def test_no_verb_says_none_of_a_page_that_is_there(pool, kind, what):
    """And none changes anything."""
    n = next(n for n in far_ones(pool, kind, PAGES) if n % 16 == 0)
    before = stats(pool)
    mend = spoil(kind, what)
    for name, verb in verbs(pool, n).items():
        with pytest.raises(ERRORS[what], match=rf"page \d+ of object \({n // 16}, 0, 0\)"):
            verb()
        assert stats(pool)["far_pages"] == before["far_pages"], name
    after = stats(pool)
    assert after["gets_miss"] - before["gets_miss"] == len(verbs(pool, n)) and after["gets_hit"] == before["gets_hit"]
    count = len(verbs(pool, n))
    assert after["far_failed"] - before["far_failed"] == (count if what == "deaf" else 0)
    assert after["far_lost"] - before["far_lost"] == (count if what != "deaf" else 0)
    assert after["far_misses_gone"] == 0
    assert pool.engine.check().counts["far_lost"] == (what != "deaf")
    mend()
    assert all(get(pool, m) == content(m) for m in range(n, n + 16))
    assert pool.engine.check().counts["far_lost"] == 0
    assert_sound(pool.engine)


@answers
def test_values_and_conditions(pool, kind, what):
    oids = [(n, 1, 0) for n in range(400)]
    for n, oid in enumerate(oids):
        assert pool.put_object(oid, content(n), key=b"key %d" % n, word=n)
        if n % 32 == 31:
            pool.engine.spill()
    kind.asked.clear()
    n = next(n for n, oid in enumerate(oids) if pool.get_object(oid) == content(n) and kind.asked)
    oid, version = oids[n], pool.get_object(oids[n], info=True)[1].version
    mend = spoil(kind, what)
    for verb in (lambda: pool.get_object(oid), lambda: pool.get_object(oid, info=True), lambda: pool.incr(oid),
                 lambda: pool.get_object_into(oid, bytearray(PAGE)), lambda: pool.view_object(oid)):
        with pytest.raises(ERRORS[what]):
            verb()
    assert pool.has(oid) and pool.touch(oid, 1000) and pool.expires(oid) > 900
    assert pool.put_object(oid, b"new", if_absent=True) is engine.CONFLICT
    assert pool.put_object(oid, b"new", if_version=version + 1) is engine.CONFLICT
    listed = {info.oid: info for info in pool.objects()}
    assert set(oids) <= set(listed)                     # of those whose bytes cannot be had, no key
    assert listed[oid].key is listed[oid].word is None and listed[oid].version == version
    assert pool.put_object(oid, b"new", if_version=version) is True
    assert pool.get_object(oid) == b"new"
    assert pool.flush_object(oids[n - 1]) and pool.get_object(oids[n - 1]) is None
    mend()
    assert all(pool.get_object((m, 1, 0)) == content(m) for m in range(400) if m not in (n, (n - 1) % 400))
    assert_sound(pool.engine)


@answers
def test_a_batch_says_at_its_end_what_it_has(pool, kind, what):
    far = set(far_ones(pool, kind, PAGES))
    handles = [handle(n) for n in range(PAGES)]
    mend = spoil(kind, what)
    with pytest.raises(ERRORS[what], match=f"{len(far)} of {PAGES} pages") as caught:
        pool.get_many(handles)
    assert caught.value.failed == [handle(n) for n in sorted(far)]
    assert caught.value.pages == [None if n in far else content(n) for n in range(PAGES)]
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is ERRORS[what] and again.pages == caught.value.pages and str(again) == str(caught.value)
    # Those that leave are in it, too, and those that could not be had have not left.
    with pytest.raises(ERRORS[what]) as caught:
        pool.get_many(handles, free=True)
    assert caught.value.pages == [None if n in far else content(n) for n in range(PAGES)]
    mend()
    assert pool.get_many(handles) == [content(n) if n in far else None for n in range(PAGES)]
    assert_sound(pool.engine)


def test_a_batch_with_a_lost_page_says_so(pool, kind, monkeypatch):
    one, two = far_ones(pool, kind, PAGES)[:2]
    monkeypatch.setattr(kind, "get_many", lambda self, names, tokens, lengths: [FAILED, None])
    with pytest.raises(engine.FarLost) as caught:
        pool.get_many([handle(one), handle(two)])
    assert caught.value.failed == [handle(one), handle(two)]


def test_a_miss_is_a_miss_as_ever(pool, kind):
    kind.deaf = True
    kind.asked.clear()
    assert pool.get((7777, 0, 0), 0) is None and pool.get_object((7777, 0, 0)) is None
    assert pool.get_range((7777, 0, 0), 0, 2) is None and pool.get_many([((7777, 0, 0), 0)]) == [None]
    assert not kind.asked


def test_what_is_lost_stays_so_until_it_is_flushed_or_put_over(pool, kind):
    one, two, three = far_ones(pool, kind, PAGES)[:3]
    before = dict(kind.kept)
    kind.kept.clear()
    for _ in range(3):
        kind.asked.clear()
        with pytest.raises(engine.FarLost):
            get(pool, one)
        assert kind.asked                               # each time it is asked anew
    for n in (two, three):
        with pytest.raises(engine.FarLost):
            get(pool, n)
    assert pool.engine.check().counts["far_lost"] == 3
    assert pool.engine.check(gentle=True).counts["far_lost"] == 3
    assert pool.flush_page(*handle(one)) and get(pool, one) is None
    pool.flush_object((500, 0, 0))
    for n in range(PAGES - 40, PAGES):
        pool.flush_page(*handle(n))                     # room for one more
    assert pool.put(*handle(two), b"anew" * 300) and get(pool, two) == b"anew" * 300
    assert pool.engine.check().counts["far_lost"] == 1
    kind.kept.update(before)
    assert get(pool, three) == content(three)           # and where the tier finds it again, it is had
    assert pool.engine.check().counts["far_lost"] == 0
    assert_sound(pool.engine)


def test_a_process_without_the_tier_says_so(pool, kind, monkeypatch):
    n = far_ones(pool, kind, PAGES)[0]

    def refuse(target, nonce, words, nodes):
        raise engine.TmemError("far: no way there")
    monkeypatch.setattr(kind, "open", refuse)
    other = pool.engine.pool("p")
    assert other.far_trouble == "far: no way there"
    with pytest.raises(engine.FarUnavailable, match="no way there"):
        get(other, n)
    assert get(pool, n) == content(n)


@pytest.mark.parametrize("change", ["over", "flush", "destroy", "clear"])
def test_what_was_put_over_or_flushed_meanwhile_is_not_lost(pool, kind, change):
    """The tier has dropped it, since it was told to."""
    n = far_ones(pool, kind, PAGES)[0]
    for m in range(PAGES - 40, PAGES):
        pool.flush_page(*handle(m))

    def meddle(verb, names):
        kind.before = None
        kind.kept.clear()
        if change == "over":
            assert pool.put(*handle(n), content(n, 1))
        elif change == "flush":
            assert pool.flush_page(*handle(n))
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


def test_what_changes_is_immediate_and_local(pool, kind):
    """Also with a tier that does not answer."""
    far = far_ones(pool, kind, PAGES)
    kind.deaf = True
    kind.asked.clear()
    assert pool.flush_page(*handle(far[0])) and get(pool, far[0]) is None
    assert pool.flush_object((far[-1] // 16, 0, 0)) and get(pool, far[-1]) is None
    pool.clear()
    assert all(get(pool, n) is None for n in range(PAGES))
    pool.destroy()
    assert not kind.asked
    assert_sound(pool.engine)


def test_the_tier_hears_of_what_is_dead(pool, kind):
    for n in far_ones(pool, kind, PAGES)[::2]:
        assert pool.flush_page(*handle(n))
    for _ in range(10):
        pool.engine.tend()
    assert len(kind.kept) == stats(pool)["far_pages"]


def test_pages_come_home_and_leave_again(arena, kind):
    pool = arena.new_pool("p", **{**FAR, "localify": True})
    fill(pool, PAGES)
    for turn in range(4):
        for n in range(turn * 100, turn * 100 + 300):
            assert get(pool, n) == content(n)
            if n % 32 == 31:
                arena.tend()
    assert stats(pool)["localified"] > 10
    assert all(get(pool, n) == content(n) for n in range(PAGES))
    assert_sound(arena)


def test_a_swap_area(arena, kind):
    """None would say that the page is on the device, where an older one is."""
    swap = Frontswap(arena, "guest", exclusive=True, far="dict:", far_persistent=True)
    swap.init_area(1)
    for n in range(PAGES):
        assert swap.store(1, n, content(n))
        if n % 32 == 31:
            arena.spill()
    kind.deaf = True
    there = []
    for n in range(PAGES):
        try:
            assert swap.load(1, n) == content(n)
            there.append(n)
        except engine.FarUnavailable:
            pass
    assert 0 < len(there) < PAGES
    kind.deaf = False
    for n in range(PAGES):
        assert swap.load(1, n) == (None if n in there else content(n))
    assert_sound(arena)


# --- memory ---------------------------------------------------------------------------------------


def test_a_put_into_a_full_arena_needs_a_spiller(arena, kind):
    pool = arena.new_pool("p", **FAR)
    n = 0
    while pool.put(*handle(n), content(n)):
        n += 1
    assert n > 500 and not pool.put(*handle(n), content(n))
    for m in range(n):
        assert get(pool, m) == content(m) == get(pool, m) == get(pool, m)   # whatever the policy thinks of them
    for _ in range(3):
        arena.spill()
    assert stats(pool)["far_pages"] > 20
    for more in range(20):
        assert pool.put(*handle(n + more), content(n + more))
    assert all(get(pool, m) == content(m) for m in range(n + 20))
    assert_sound(arena)


@pytest.mark.parametrize("far", [None, "dict:"])
def test_ephemeral_pages_never_drive_out_persistent_ones(arena, kind, far):
    """Neither those that are here nor those that are far, with a spiller or without."""
    kept = arena.new_pool("kept", **FAR)
    fill(kept, 900)
    before = stats(kept)
    other = arena.new_pool("other", far=far, cap=300)
    for n in range(3000):
        assert other.put((n // 16, 0, 0), n % 16, content(n))
        if n % 128 == 127:
            arena.spill()
    assert stats(other)["evicted"] > 0 and stats(kept)["pages"] == before["pages"] == 900
    assert stats(kept)["evicted"] == 0 and stats(kept)["far_pages"] >= before["far_pages"]
    assert all(get(kept, n) == content(n) for n in range(900))
    assert_sound(arena)


def test_a_clients_cap_is_of_ephemeral_pages(arena, kind):
    arena.client(7, cap=50)
    other = arena.new_pool("other", client=7)
    for n in range(60):
        assert other.put(*handle(n), content(n))
    assert stats(other)["pages"] == 50
    kept = arena.new_pool("kept", client=7, **FAR)
    fill(kept, 900)
    assert all(get(kept, n) == content(n) for n in range(900))
    assert stats(other)["pages"] <= 50
    assert_sound(arena)


@pytest.mark.parametrize("most", [100, "400KiB"])
def test_no_more_leave_than_may_and_others_have_their_turn(arena, kind, most):
    kept = arena.new_pool("kept", far_max=most, **FAR)
    n = 0
    while kept.put(*handle(n), content(n)):
        n += 1
        if n % 32 == 31:
            arena.spill()
    assert 98 <= stats(kept)["far_pages"] <= 100 and stats(kept)["far_bytes"] <= 400 << 10 and n > 600
    assert all(get(kept, m) == content(m) for m in range(n))
    for m in range(300):
        kept.flush_page(*handle(m))
    other = arena.new_pool("other", far="dict:")
    fill(other, 500)
    assert all(get(kept, m) == content(m) for m in range(300, n))
    assert_sound(arena)


def test_a_tier_that_takes_nothing_holds_up_no_other(arena, kind, monkeypatch):
    stuck = arena.new_pool("stuck", **FAR)
    for n in range(300):
        assert stuck.put(*handle(n), content(n))
    tier = type("Stuck", (kind,), {"put_many": lambda self, batch: [0] * len(batch.names)})
    monkeypatch.setattr("tests.contract.fars.tiers.SCHEMES", {"dict": tier})
    other_engine = engine.attach(arena.name)
    with other_engine:
        fine = arena.new_pool("fine", **FAR)            # opened before by the engine that spills
        n = 0
        while fine.put(*handle(n), content(n)) and n < 800:
            n += 1
            if n % 32 == 31:
                arena.spill()
    assert stats(stuck)["far_pages"] == 0 and n >= 200
    assert all(get(stuck, m) == content(m) for m in range(300))
    assert all(get(fine, m) == content(m) for m in range(n))
    assert_sound(arena)


def test_memory_that_moves(pool, kind):
    """Smaller in steps: each makes the spiller let pages leave for the next."""
    for capacity in (*range(2944, 2047, -128), 3072, 2944, 3072):
        pool.engine.resize(f"{capacity}KiB")
        assert_sound(pool.engine)
        assert all(get(pool, n) == content(n) for n in range(PAGES))
        for _ in range(3):
            pool.engine.tend()
    with pytest.raises(engine.TmemError, match="persistent pages"):
        pool.engine.resize("1MiB")
    assert all(get(pool, n) == content(n) for n in range(PAGES))
    assert_sound(pool.engine)


def test_a_long_value_drives_out_none(arena, kind):
    """A window of segments is emptied for it: what lies there moves."""
    pool = arena.new_pool("p", **FAR)
    fill(pool, 900)
    other = arena.new_pool("other")
    for n in range(30):
        other.put_object((n, 0, 0), os.urandom(100_000))
        arena.spill()
    assert all(get(pool, n) == content(n) for n in range(900))
    assert_sound(arena)


def test_a_repair_keeps_them(pool, kind):
    far = far_ones(pool, kind, PAGES)
    kind.kept.clear()
    with pytest.raises(engine.FarLost):
        get(pool, far[0])
    report = pool.engine.check(repair=True)
    assert not report.lost and stats(pool)["far_pages"] == len(far)
    for n in far:
        with pytest.raises(engine.FarLost):
            get(pool, n)
    assert_sound(pool.engine)


def test_garbage_is_what_no_pool_of_the_arena_has(pool, kind, monkeypatch):
    """Also a pool whose tier cannot be had here, or that nobody but its client may open: its names
    are on the same servers."""
    def listed(tier, nonce, silent):
        return [struct.unpack("<QQ", name)[1] for name in kind.kept]
    monkeypatch.setattr(kind, "listed", listed, raising=False)
    stray = [struct.pack("<QQ", struct.unpack("<QQ", next(iter(kind.kept)))[0], n) for n in range(5)]
    kind.kept.update(dict.fromkeys(stray, b"garbage"))
    arena = pool.engine
    arena.new_pool("q", far="dict:lame")
    opened = kind.open

    def refuse(target, nonce, words, nodes):
        if target == "dict:":
            raise engine.TmemError("far: no way there")
        return opened(target, nonce, words, nodes)
    monkeypatch.setattr(kind, "open", refuse)
    done = arena.far_gc()
    assert done.dropped == 5 and not set(stray) & set(kind.kept)
    monkeypatch.setattr(kind, "open", opened)
    assert all(get(pool, n) == content(n) for n in range(PAGES))
    mine = arena.new_pool("mine", client=7, far="dict:", allow=[7])
    with engine.attach(arena.name, client=8) as other, pytest.raises(engine.AccessDenied):
        other.far_gc()
    assert all(get(pool, n) == content(n) for n in range(PAGES)) and mine.far


# --- snapshots ------------------------------------------------------------------------------------


@pytest.fixture
def back(arena_name):
    """Restore a file into a larger arena: its engine."""
    opened = []

    def restore(file, capacity="16MiB"):
        engine.restore(file, f"{arena_name}back", capacity=capacity)
        opened.append(engine.attach(f"{arena_name}back"))
        return opened[0]
    yield restore
    for eng in opened:
        eng.close()
        engine.unlink(eng.name)


@pytest.mark.parametrize("pam", ["raw", "zstd"])
def test_a_snapshot_has_what_is_far(arena, kind, tmp_path, back, pam):
    if pam == "zstd":
        pytest.importorskip("zstandard")
    pool = arena.new_pool("p", page_size="512KiB", pam=pam, **FAR)

    def value(n):
        return os.urandom(600) + b"x" * 3000 + b"%d" % n
    whole = os.urandom(300_000)
    assert pool.put((1, 2, 0), 5, whole)
    values = {n: value(n) for n in range(700 if pam == "raw" else 4000)}
    for n, data in values.items():
        assert pool.put_object((n, 1, 0), data, key=b"key %d" % n, word=n, ttl=1000)
        if n % 32 == 31:
            arena.spill()
    for n in range(64):
        arena.spill()
        assert pool.put(*handle(n), content(n))
    assert stats(pool)["far_pages"] > 100
    kind.asked.clear()
    saved = arena.save(tmp_path / "s")
    asked = [len(names) for verb, names in kind.asked if verb == "get"]
    assert sum(asked) >= stats(pool)["far_pages"] and len(asked) <= 40      # in batches
    assert (saved.objects, saved.torn) == (len(values) + 1 + 4, 0) and saved.pages == stats(pool)["pages"]
    found = back(tmp_path / "s").pool("p")
    assert found.far is None and not found.far_persistent and found.persistent
    for n, data in values.items():
        got, info = found.get_object((n, 1, 0), info=True)
        assert got == data and (info.key, info.word) == (b"key %d" % n, n) and 900 < info.expires <= 1000
    assert found.get((1, 2, 0), 5) == whole
    assert all(get(found, n) == content(n) for n in range(64))
    assert_sound(found.engine)
    assert_sound(arena)


def test_a_snapshot_of_far_pages_longer_than_a_block(make_arena, kind, tmp_path, back, monkeypatch):
    monkeypatch.setattr(kind, "longest", 4 << 20)
    monkeypatch.setattr(kind, "batch_bytes", 8 << 20)
    eng = make_arena(page_size=PAGE, capacity="48MiB", huge_pages=False)
    pool = eng.new_pool("p", page_size="2MiB", **FAR)
    pages = {n: os.urandom(1_300_000) for n in range(45)}
    for n, page in pages.items():
        while not pool.put((n // 4, 0, 0), n % 4, page):
            assert eng.spill()
    assert stats(pool)["far_pages"] >= 3
    eng.save(tmp_path / "s")
    found = back(tmp_path / "s", "96MiB").pool("p")
    assert all(found.get((n // 4, 0, 0), n % 4) == page for n, page in pages.items())
    assert_sound(found.engine)


@answers
def test_a_snapshot_that_cannot_have_a_page_fails(pool, kind, tmp_path, what):
    (tmp_path / "s").write_bytes(b"before")
    mend = spoil(kind, what)
    with pytest.raises(ERRORS[what], match=r"page \d+ of object"):
        pool.engine.save(tmp_path / "s")
    assert (tmp_path / "s").read_bytes() == b"before" and os.listdir(tmp_path) == ["s"]
    with pytest.raises(ValueError, match="frozen"):
        pool.engine.save(tmp_path / "s", frozen=True)
    mend()
    assert pool.engine.save(tmp_path / "s").pages == PAGES
    assert_sound(pool.engine)


def test_a_snapshot_while_pages_leave_and_change(pool, kind, tmp_path, back):
    """Asked for far pages in the middle of it: some are put over, flushed, or come to be far."""
    versions = dict.fromkeys(range(PAGES), 0)
    busy = []

    def meddle(verb, names):
        if verb != "get" or busy:
            return
        busy.append(True)
        n = len(names) * 7 % PAGES
        for m in range(n, min(n + 40, PAGES)):
            assert pool.flush_page(*handle(m))
            assert pool.put(*handle(m), content(m, 1))
            versions[m] = 1
        pool.engine.spill()
        busy.clear()
    kind.before = meddle
    assert pool.engine.save(tmp_path / "s").torn == 0
    kind.before = None
    found = back(tmp_path / "s").pool("p")
    for n, version in versions.items():
        assert get(found, n) in ((content(n), content(n, 1)) if version else (content(n),))


# --- damage --------------------------------------------------------------------------------------


def set_flags(eng, name, change):
    """Let the record of a pool have other flags than it was made with."""
    with open(f"/dev/shm/{eng.name}", "r+b") as file, mmap.mmap(file.fileno(), 0) as arena:
        at = arena.find(struct.pack("<Q", 0x706F6F31))
        while arena[at + 64 : at + 66] != name + b"\0":
            at = arena.find(struct.pack("<Q", 0x706F6F31), at + 8)
        flags, = struct.unpack_from("<Q", arena, at + 32)
        struct.pack_into("<Q", arena, at + 32, change(flags))


@pytest.mark.parametrize("missing", [16, 32], ids=["no tier", "tier that need not keep them"])
def test_a_far_page_in_a_persistent_pool_that_has_no_such_tier_is_damage(pool, missing):
    before = stats(pool)["pages"]
    set_flags(pool.engine, b"p", lambda flags: flags & ~missing)
    report = pool.engine.check()
    assert {problem.id for problem in report.problems} >= {"page-far"}
    report = pool.engine.check(repair=True)
    assert report.lost and not report.problems
    with engine.attach(pool.engine.name) as other:
        found = other.pool("p")
        assert not found.far_persistent
        for n in range(PAGES):
            assert get(found, n) in (None, content(n))
        assert other.stats()["pools"]["p"]["pages"] < before


def test_a_pool_that_says_it_is_ephemeral_after_all(pool, kind):
    """Whatever the flags become: no crash, no loop, and no bytes but the page's."""
    set_flags(pool.engine, b"p", lambda flags: flags & ~1)
    other = pool.engine.new_pool("other")
    for n in range(600):
        other.put(*handle(n), content(n))
        if n % 64 == 0:
            pool.engine.spill()
    for n in range(PAGES):
        assert get(pool, n) in (None, content(n))
    pool.engine.check(repair=True)
    assert_sound(pool.engine)


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("whole", [True, False])
def test_pages_that_cannot_leave_are_not_in_the_way_of_those_that_can(arena, kind, policy, whole):
    """Short ones, and such that are filled with one byte, are the oldest by and by."""
    pool = arena.new_pool("p", policy=policy, whole=whole, **FAR)
    kept = {}
    for n in range(2400):
        kept[n] = content(n) if n % 3 == 0 else content(n)[:100] if n % 3 == 1 else bytes([n % 251]) * PAGE
        assert pool.put(*handle(n), kept[n])
        if n % 32 == 31:
            arena.spill()
    assert stats(pool)["far_pages"] > 200
    assert all(get(pool, n) == data for n, data in kept.items())
    assert_sound(arena)
