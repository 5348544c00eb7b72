"""Owns that a batch asks a tier once for all pages that are far, and answers as single gets do."""
import random
import sys

import pytest

import engine.far.file
from engine.far.answers import FAILED
from engine.far.file import FileTier
from tests.contract.fars import PAGE, MoodyDisk, assert_sound, content, far_ones, fill, fresh_dict_tier, get, stats

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


def handle(n):
    return (n // 16, 0, 0), n % 16


def asked_for(kind):
    return [len(names) for verb, names in kind.asked if verb == "get"]


def test_64_far_pages_are_one_call(pool, kind):
    far = far_ones(pool, kind, PAGES)[:64]
    kind.asked.clear()
    before = stats(pool)
    assert pool.get_many([handle(n) for n in far]) == [content(n) for n in far]
    assert asked_for(kind) == [64]
    after = stats(pool)
    assert after["far_hits"] - before["far_hits"] == 64 == after["gets_hit"] - before["gets_hit"]
    assert after["gets_miss"] == before["gets_miss"]


def test_local_far_and_missing_pages_in_one_batch(pool, kind):
    wanted = list(range(PAGES + 50))
    random.Random(3).shuffle(wanted)
    far = set(far_ones(pool, kind, PAGES))
    there = [n for n in wanted if n < PAGES]
    kind.asked.clear()
    before = stats(pool)
    assert pool.get_many([handle(n) for n in wanted]) == [content(n) if n < PAGES else None for n in wanted]
    assert sum(asked_for(kind)) == len(far) and max(asked_for(kind)) <= 256
    assert len(asked_for(kind)) <= len(wanted) // 256 + 1
    after = stats(pool)
    assert after["gets_hit"] - before["gets_hit"] == len(there)
    assert after["gets_miss"] - before["gets_miss"] == 50


def test_a_call_is_of_so_many_bytes_at_most(make_arena, kind):
    pool = make_arena(page_size=PAGE, capacity="12MiB", huge_pages=False, shards=4).new_pool(
        "p", far="dict:", page_size="512KiB")
    pages = [random.Random(n).randbytes(1 << 19) for n in range(60)]
    for n in range(60):
        assert pool.put((n, 0, 0), 0, pages[n])
        pool.engine.spill()
    kind.asked.clear()
    found = pool.get_many([((n, 0, 0), 0) for n in range(60)])
    assert all(page in (None, pages[n]) for n, page in enumerate(found))
    assert len(asked_for(kind)) > 1 and max(asked_for(kind)) <= 8


def test_indexes_of_an_object(pool, kind):
    far = far_ones(pool, kind, PAGES)
    oid = (far[0] // 16, 0, 0)
    kind.asked.clear()
    assert pool.object(oid).get_many(range(16)) == [content(oid[0] * 16 + i) for i in range(16)]
    assert len(asked_for(kind)) == 1


@pytest.mark.parametrize("change", ["over", "flush", "flush and put", "clear"])
def test_a_page_that_changes_while_the_tier_is_asked(pool, kind, change):
    """ABA: between the tier's answer and the second look."""
    far = far_ones(pool, kind, PAGES)[:30]
    changed = far[::3]

    def meddle(verb, names):
        kind.before = None
        if change == "clear":
            pool.clear()
        for n in changed if change != "clear" else ():
            if "flush" in change:
                assert pool.flush_page(*handle(n))
            if change != "flush":
                assert pool.put(*handle(n), content(n, 1))
    kind.before = meddle
    found = pool.get_many([handle(n) for n in far])
    for n, page in zip(far, found, strict=True):
        if change == "clear" or change == "flush" and n in changed:
            assert page is None
        else:
            assert page == content(n, n in changed)
    assert_sound(pool.engine)


def test_a_page_that_becomes_far_again_while_the_tier_is_asked(pool, kind):
    """It is got by itself, from the beginning, under the name that it has then."""
    far = far_ones(pool, kind, PAGES)[:30]

    def meddle(verb, names):
        kind.before = None
        for n in far:
            assert pool.put(*handle(n), content(n, 1))
        fill(pool, 640, start=20000)
    kind.before = meddle
    found = pool.get_many([handle(n) for n in far])
    assert found.count(None) == 0
    assert all(page == content(n, 1) for n, page in zip(far, found, strict=True))
    assert max(asked_for(kind)) == 30 and asked_for(kind).count(1) > 0


def test_what_leaves_by_being_got(pool, kind):
    """Also where a batch names a page twice: the second is a miss."""
    far = far_ones(pool, kind, PAGES)[:20]
    twice = [handle(n) for n in far + far]
    assert pool.get_many(twice, free=True) == [content(n) for n in far] + [None] * 20
    assert all(get(pool, n) is None for n in far)
    assert_sound(pool.engine)


def test_what_a_tier_has_no_more_and_what_it_does_not_say(pool, kind):
    far = far_ones(pool, kind, PAGES)[:4]
    names = []
    for n in far:
        kind.asked.clear()
        get(pool, n)
        names.append(kind.asked[0][1][0])
    before = stats(pool)
    kind.kept[names[0]] = FAILED
    del kind.kept[names[1]]
    kind.kept[names[2]] = kind.kept[names[3]]
    assert pool.get_many([handle(n) for n in far]) == [None, None, None, content(far[3])]
    after = stats(pool)
    counted = ("far_failed", "far_misses_gone", "checksum_bad", "far_hits", "far_pages", "gets_miss")
    assert [after[name] - before[name] for name in counted] == [1, 2, 1, 1, -2, 3]


def test_a_tier_that_does_not_answer(pool, kind):
    far = far_ones(pool, kind, PAGES)[:10]
    kind.deaf = True
    assert pool.get_many([handle(n) for n in far]) == [None] * 10
    kind.deaf = False
    assert pool.get_many([handle(n) for n in far]) == [content(n) for n in far]


def test_a_signal_handler_that_gets_far_pages_does_not_spoil_those_that_are_being_got(make_arena, tmp_path):
    """It has the same thread, at any moment of what Python does there; nothing is lost by it."""
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far=f"file://{tmp_path}/far?size=16MiB", localify=False)
    fill(pool, PAGES)
    codes = {verb.__code__ for verb in (FileTier.get_many, FileTier._get, FileTier._read)}
    traced = sys.gettrace()

    def read(first, how):
        wanted = range(first, first + 6)
        found = pool.get_many([handle(n) for n in wanted]) if how == "many" else [get(pool, n) for n in wanted]
        assert found == [content(n) for n in wanted]

    def meddle(frame, event, arg):
        """Is the handler before the instruction of this number, once."""
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes = True

        def step(frame, event, arg):
            if event in ("opcode", "line"):     # not every Python tells of all opcodes
                left[0] -= 1
                if left[0] == 0:
                    sys.settrace(None)
                    read(100, "many")
                    read(200, "single")
            return step
        return step
    for how in ("many", "single"):
        point = 0
        left = [0]
        while left[0] <= 0:
            point += 1
            left = [point]
            sys.settrace(meddle)
            try:
                read(0, how)
            finally:
                sys.settrace(traced)
        assert point > 10
    assert stats(pool)["checksum_bad"] == stats(pool)["far_misses_gone"] == 0


def test_a_file_is_read_once_for_pages_that_lie_together(make_arena, tmp_path, monkeypatch):
    """And each by itself where that fails."""
    class Own(MoodyDisk):
        spans = []
    monkeypatch.setattr(engine.far.file, "Disk", Own)
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far=f"file://{tmp_path}/far?size=16MiB", localify=False)
    fill(pool, PAGES)
    singles = []
    read = FileTier._read

    def counted(self, at, length):
        singles.append(length)
        if broken:
            raise OSError(5, "a sector is bad")
        return read(self, at, length)
    monkeypatch.setattr(FileTier, "_read", counted)
    broken = False
    wanted = [handle(n) for n in range(PAGES)]
    assert pool.get_many(wanted) == [content(n) for n in range(PAGES)]
    far = stats(pool)["far_pages"]
    assert far > 250 and not singles and len(Own.spans) < far / 4
    assert max(length for *_, length in Own.spans) <= (1 << 20) + 4096
    Own.reads = lambda done: -5 if done > 2 * PAGE else done
    assert pool.get_many(wanted) == [content(n) for n in range(PAGES)] and singles
    Own.reads, broken = (lambda done: -5), True
    assert pool.get_many(wanted).count(None) == far and stats(pool)["far_failed"] == far
    Own.reads, broken = None, False
    assert pool.get_many(wanted[::-1]) == [content(n) for n in range(PAGES)][::-1]


def test_a_token_that_cannot_be_is_a_miss(tmp_path):
    tier, _ = FileTier.make(f"file://{tmp_path}/far?size=8MiB", 7, 0o600)
    names = [bytes(16)] * 5
    tokens = [(1 << 64) - 1, 1 << 18 | 5, 1 << 18 | 6, 0, 1 << 18 | (1 << 18) - 1]
    for lengths in ([0] * 5, [1 << 31] * 5, [2 << 20] * 5, [9, 100, 5, 3000, 9]):
        found = tier.get_many(names, tokens, lengths)
        assert all(value is None or len(value) == length for value, length in zip(found, lengths, strict=True))


@pytest.mark.parametrize("pam", ["raw", "zstd"])
def test_the_values_of_a_cache(make_arena, kind, pam):
    if pam == "zstd":
        pytest.importorskip("zstandard")
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    eng.new_pool("c", far="dict:", pam=pam)
    cache = eng.cache("c")
    rnd = random.Random(1)
    values = {n: rnd.randbytes(3000) + b"x" * 2000 for n in range(1100)}
    for n, value in values.items():
        assert cache.set(n, value)
        if n % 8 == 7:
            eng.spill()
    kind.asked.clear()
    found = cache.get_many([*range(1100), "no", 7])
    assert found and all(value == values[n] for n, value in found.items())
    assert len(found) > 1000 and list(found) == sorted(found)
    assert len(asked_for(kind)) <= 5 and sum(asked_for(kind)) > 100


def test_batches_are_what_single_gets_are(pool, kind):
    """Against a dict with versions, with all verbs in between."""
    rnd = random.Random(5)
    versions = dict.fromkeys(range(PAGES), 0)
    for turn in range(1, 40):
        for n in rnd.sample(range(PAGES), 20):
            if rnd.random() < 0.3:
                pool.flush_page(*handle(n))
                versions.pop(n, None)
            else:
                assert pool.put(*handle(n), content(n, turn))
                versions[n] = turn
        pool.engine.spill()
        wanted = [rnd.randrange(PAGES) for _ in range(rnd.randrange(300))]
        free = rnd.random() < 0.1
        for n, page in zip(wanted, pool.get_many([handle(n) for n in wanted], free=free), strict=True):
            assert page is None or page == content(n, versions[n])
            if free or page is None:
                versions.pop(n, None)
    assert_sound(pool.engine)
