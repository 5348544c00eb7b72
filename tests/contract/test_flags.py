"""Owns the rule that a flag of a page is known to everybody who has to know it: the codecs, the
check, a repair, and whoever moves pages.

A flag that is added to engine/layout/words.pxd, and nowhere else, fails here: it has no kind, or
nobody makes a page with it; and made, its page must pass the check, outlive a repair, and come
through a shrinking.
"""
import contextlib
import mmap
import re
import struct

import pytest

import engine
from tests.contract.fars import fresh_dict_tier
from tests.hostile.scene import TolerantPam
from tests.hostile.structs import CONSTANTS, Map, offset
from tests.support import ROOT, SHM

WORDS = (ROOT / "engine/layout/words.pxd").read_text()
ENUM = re.search(r"^# The flags of a page\..*?^cdef enum:\n(.*?)^\S", WORDS, re.MULTILINE | re.DOTALL)[1]
FLAGS_SHIFT = CONSTANTS["FLAGS_SHIFT"]
FLAGS = {name: int(bit) for name, bit in re.findall(r"^    (\w+) = (\d+)\b", ENUM, re.MULTILINE)}
KINDS = {
    kind: parts.split(" | ")
    for kind, parts in re.findall(r"^    (\w+) = ([A-Z]\w*(?: \| \w+)*)\s", ENUM, re.MULTILINE)
}
UNUSED = [1 << i for i in range(8) if 1 << i not in FLAGS.values()]
PAGE = 512
PAGES = 24
FIRST = 0xF1A6_0000_0000        # index of the first page, by which its descriptor is found


def test_every_flag_is_one_bit_of_one_kind():
    assert set(KINDS) == {"ELSEWHERE", "CODECS", "NOTES"}
    assert sorted(sum(KINDS.values(), [])) == sorted(FLAGS)
    assert all(bit & (bit - 1) == 0 and bit < 256 for bit in FLAGS.values()) and len(set(FLAGS.values())) == len(FLAGS)


def test_nobody_puts_flags_together_by_hand():
    """Outside of words.pxd, more than one flag is a kind or a function."""
    names = "|".join(FLAGS)
    by_hand = re.compile(rf"\b(?:{names})\b *\||\| *\b(?:{names})\b|<< *40\b.*(?:{names})|\b(?:{names})\b.*<< *40\b")
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for kind in ("*.py", "*.pxd")
        for path in (ROOT / "engine").rglob(kind)
        if path.name != "words.pxd"
        for line in path.read_text().splitlines()
        if by_hand.search(line)
    ]
    assert not wrong


# --- a page of every flag -------------------------------------------------------------------------


def plain(n):
    """A page that is like no other, and not one word over and over."""
    return (b"%d and %d, " % (n, n * n) + bytes(range(256)) * 2)[:PAGE]


def raw(make):
    return make("p", persistent=True), plain


def foreign(make):
    engine.register_pam("flags", TolerantPam)
    return make("p", persistent=True, pam="flags"), plain


def same(make):
    return make("p"), lambda n: struct.pack("<Q", n + 1) * (PAGE // 8)


def twin(make):
    return make("p", dedup=True), lambda n: plain(n // 2)


def packed(name):
    def make_packed(make):
        pytest.importorskip({"lz4": "lz4.block", "zstd": "zstandard"}[name])
        return make("p", persistent=True, pam=name), lambda n: (b"%d, " % n * PAGE)[:PAGE]
    return make_packed


def far(make):
    return make("p", far="dict:"), plain


def make_far(eng, pool):
    """Let the first pages of a pool be far: there comes more than there is room for."""
    n = 0
    while eng.stats()["pools"]["p"]["far_pages"] < PAGES:
        assert pool.put((9, n, 0), 0, plain(n))
        n += 1
        if n % 32 == 0:
            eng.spill()
    for i in range(n):
        pool.flush_object((9, i, 0))


MAKERS = {
    "FOREIGN": foreign, "SAME": same, "LZ4": packed("lz4"), "ZSTD": packed("zstd"), "TWIN": twin, "VIEWED": raw,
    "TAIL": raw, "FAR": far,
}


def test_every_flag_has_a_page_here():
    assert set(MAKERS) == set(FLAGS)


def put(pool, flag, n, content):
    """A page that is found by its index; one with a tail is a value, and page 0 of its object."""
    if flag == "TAIL":
        return pool.put_object((1, 2, FIRST + n), content, key=b"of %d" % n)
    return pool.put((1, 2, 3), FIRST + n, content)


def get(pool, flag, n):
    if flag != "TAIL":
        return pool.get((1, 2, 3), FIRST + n, free=False)
    data, info = pool.get_object((1, 2, FIRST + n), info=True) or (None, None)
    assert info is None or info.key == b"of %d" % n
    return data


def shapes(eng, tails=False):
    """{offset: shape} of all living descriptors of the pages under test."""
    found = {}
    sentinel = struct.pack("<Q", CONSTANTS["PAMPD_SENTINEL"])
    with open(SHM / eng.name, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        at = memory.find(sentinel)
        while at >= 0:
            index, = struct.unpack_from("<Q", memory, at + offset("Pampd", "index"))
            shape, = struct.unpack_from("<Q", memory, at + offset("Pampd", "shape"))
            if at % 64 == 0 and (shape >> FLAGS_SHIFT & FLAGS["TAIL"] if tails else FIRST <= index < FIRST + PAGES):
                found[at] = shape
            at = memory.find(sentinel, at + 8)
    return found


def write(eng, at, word):
    with open(SHM / eng.name, "r+b", buffering=0) as file:
        file.seek(at)
        file.write(struct.pack("<Q", word))


def damage(eng, pool):
    """Give a repair something to do that is not about pages."""
    with open(SHM / eng.name, "rb") as file:
        record = Map(file.read(4096)).record(pool.id)
    write(eng, record + offset("PoolRecord", "seat"), 99)
    assert {problem.id for problem in eng.check().problems} == {"pool-client"}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_page_is_kept_whatever_is_done_to_the_arena(make_arena, monkeypatch, flag):
    """Checked, repaired, and moved; an evicted page is gone, but never another's."""
    eng = make_arena(capacity="4MiB", page_size=PAGE, huge_pages=False, shards=2)
    fresh_dict_tier(monkeypatch)
    filler = eng.new_pool("filler", persistent=True)
    pool, content = MAKERS[flag](eng.new_pool)
    for n in range(PAGES):
        assert put(pool, flag, n, content(n))
        for i in range(4000 // PAGES):          # so that the pages lie far apart
            assert filler.put((n, i, 0), 0, plain(i))
    for n in range(PAGES if flag == "VIEWED" else 0):
        pool.view((1, 2, 3), FIRST + n).release()
    if flag == "FAR":
        make_far(eng, pool)
    tails = flag == "TAIL"
    assert sum(shape >> FLAGS_SHIFT & FLAGS[flag] != 0 for shape in shapes(eng, tails).values()) >= PAGES // 2

    def kept(maybe):
        for n in range(PAGES):
            assert get(pool, flag, n) in (content(n), *maybe)
        for gentle in (False, True):
            report = eng.check(gentle=gentle)
            assert report.ok, [str(problem) for problem in report.problems[:3]]

    kept(())
    damage(eng, pool)
    report = eng.check(repair=True)
    assert report.repaired and not report.lost
    kept(())
    for n in range(PAGES):
        for i in range(4000 // PAGES):
            assert i % 20 == 0 or filler.flush_object((n, i, 0))
    before = set(shapes(eng, tails))
    eng.resize("1MiB")
    assert set(shapes(eng, tails)) != before
    kept(() if pool.persistent else (None,))


@pytest.mark.parametrize("bit", UNUSED)
@pytest.mark.parametrize("pam", ["raw", "lz4"])
def test_a_flag_of_no_kind_is_damage(make_arena, bit, pam):
    """The check names the page, a repair drops it, and a codec takes it for no page."""
    if pam == "lz4":
        pytest.importorskip("lz4.block")
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", persistent=True, pam=pam)
    assert pool.put((1, 2, 3), FIRST, b"some page, " * 40) and pool.put((1, 2, 4), 0, b"another")
    (at, shape), = shapes(eng).items()
    write(eng, at + offset("Pampd", "shape"), shape | bit << FLAGS_SHIFT)
    assert "page-packed" in {problem.id for problem in eng.check().problems}
    with pytest.raises(engine.ArenaCorrupted) if pam == "lz4" else contextlib.nullcontext():
        pool.get((1, 2, 3), FIRST)
    report = eng.check(repair=True)
    assert report.ok and report.lost == [("p", (1, 2, 3), FIRST)]
    assert pool.get((1, 2, 3), FIRST) is None and pool.get((1, 2, 4), 0) == b"another"


@pytest.mark.parametrize("flags", [("FOREIGN", "TAIL"), ("SAME", "TAIL"), ("LZ4", "TAIL"), ("TAIL",)])
@pytest.mark.parametrize("pam", ["raw", "lz4", "flags"])
def test_a_tail_where_there_can_be_none_is_damage(make_arena, flags, pam):
    """Whoever gets such a page gets what it holds, nothing, or hears of it."""
    if pam == "lz4":
        pytest.importorskip("lz4.block")
    engine.register_pam("flags", TolerantPam)
    eng = make_arena(capacity="2MiB", page_size=PAGE)
    pool = eng.new_pool("p", persistent=True, pam=pam)
    assert pool.put((1, 2, 3), FIRST, b"\xff" * 90 + b"a page, ") and pool.put((1, 2, 4), 0, b"another")
    (at, shape), = shapes(eng).items()
    write(eng, at + offset("Pampd", "shape"), shape | sum(FLAGS[flag] for flag in flags) << FLAGS_SHIFT)
    for call in (
        lambda: pool.get((1, 2, 3), FIRST), lambda: pool.get_many([((1, 2, 3), FIRST)]),
        lambda: pool.get_into((1, 2, 3), FIRST, bytearray(PAGE)), lambda: pool.get_range((1, 2, 3), FIRST, 1),
        lambda: pool.view((1, 2, 3), FIRST), lambda: pool.get_object((1, 2, 3)),
    ):
        with contextlib.suppress(engine.TmemError):
            call()
    assert pool.get((1, 2, 4), 0) == b"another"
    eng.check(repair=True)
    assert eng.check().ok
