"""Owns the contract of the front ends: a guest's page cache and its swap areas, guests that share a
file system, guests that die, and the example."""
import pickle
import subprocess
import sys
import uuid

import pytest

import engine
from engine.frontends.cleancache import Cleancache
from engine.frontends.frontswap import SPREAD, Frontswap
from tests.stopped import in_child
from tests.support import ROOT, child_env, page

SHARED = uuid.UUID(int=17)


def names(eng):
    return sorted(pool.name for pool in eng.pools())


# --- cleancache -----------------------------------------------------------------------------------


def test_a_guest_gets_a_page_of_its_own_back_once(eng):
    cleancache = Cleancache(eng, "g")
    fs = cleancache.init_fs()
    assert cleancache.get_page(fs, 7, 0) is None
    assert cleancache.put_page(fs, 7, 0, b"clean")
    assert cleancache.get_page(fs, 7, 0) == b"clean"
    assert cleancache.get_page(fs, 7, 0) is None, "the guest has it now"


def test_an_inode_is_whatever_can_be_an_oid(eng):
    cleancache = Cleancache(eng, "g")
    fs = cleancache.init_fs()
    for inode in (7, "/etc/hosts", b"key", (1, 2, 3)):
        assert cleancache.put_page(fs, inode, 1, repr(inode).encode())
    for inode in (7, "/etc/hosts", b"key", (1, 2, 3)):
        assert cleancache.get_page(fs, inode, 1) == repr(inode).encode()


def test_what_is_invalidated_is_gone(eng):
    cleancache = Cleancache(eng, "g")
    one, two = cleancache.init_fs(), cleancache.init_fs()
    for fs in (one, two):
        for inode in (1, 2):
            for index in range(3):
                assert cleancache.put_page(fs, inode, index, page(100 * fs + 10 * inode + index))
    assert cleancache.invalidate_page(one, 1, 0) and not cleancache.invalidate_page(one, 1, 0)
    assert cleancache.get_page(one, 1, 0) is None and cleancache.get_page(one, 1, 1) == page(100 * one + 11)
    assert cleancache.invalidate_inode(one, 2) and not cleancache.invalidate_inode(one, 2)
    assert cleancache.get_page(one, 2, 0) is None
    cleancache.invalidate_fs(one)
    assert len(names(eng)) == 1
    with pytest.raises(ValueError, match="^fs: "):
        cleancache.get_page(one, 1, 2)
    assert cleancache.get_page(two, 2, 2) == page(100 * two + 22)


def test_guests_share_a_file_system(eng):
    guests = [Cleancache(eng, name) for name in ("a", "b")]
    first, second = (guest.init_shared_fs(said) for guest, said in zip(guests, (SHARED, SHARED.bytes), strict=True))
    third = guests[1].init_shared_fs(str(uuid.UUID(int=18)))
    assert guests[0].put_page(first, 1, 0, b"page")
    assert guests[1].get_page(second, 1, 0) == guests[0].get_page(first, 1, 0) == b"page", "it stays for the others"
    assert guests[1].get_page(third, 1, 0) is None
    assert len(names(eng)) == 2


def test_unmounting_a_shared_file_system_drops_its_pages_for_all(eng):
    guests = [Cleancache(eng, name) for name in ("a", "b")]
    first, second = (guest.init_shared_fs(SHARED) for guest in guests)
    assert guests[0].put_page(first, 1, 0, b"page")
    guests[0].invalidate_fs(first)
    assert guests[1].get_page(second, 1, 0) is None, "the disk may be changed by who has no front end"
    assert guests[1].put_page(second, 1, 0, b"new")
    again = guests[0].init_shared_fs(SHARED)
    assert guests[0].get_page(again, 1, 0) == b"new"
    guests[0].invalidate_fs(again)
    guests[1].invalidate_fs(second)
    assert names(eng) == []


def test_a_client_that_does_not_own_a_shared_file_system_drops_its_pages(eng):
    with engine.attach(eng.name, client=1) as one, engine.attach(eng.name, client=2) as two:
        owner, other = Cleancache(one, "a"), Cleancache(two, "b")
        first, second = owner.init_shared_fs(SHARED), other.init_shared_fs(SHARED)
        assert owner.put_page(first, 1, 0, b"page") and other.get_page(second, 1, 0) == b"page"
        other.invalidate_fs(second)
        assert owner.get_page(first, 1, 0) is None and owner.put_page(first, 1, 0, b"new")


def test_guests_that_share_agree_on_the_page_size(eng):
    one, other = Cleancache(eng, "a"), Cleancache(eng, "b")
    one.init_shared_fs(SHARED, 4096)
    other.init_shared_fs(SHARED)
    with pytest.raises(ValueError, match="^page_size: 4096"):
        other.init_shared_fs(SHARED, 8192)


def test_a_put_that_is_refused_leaves_nothing_older(eng):
    cleancache, host = Cleancache(eng, "g"), eng.new_pool("full", persistent=True)
    fs = cleancache.init_fs(512)
    assert cleancache.put_page(fs, 1, 0, b"older")
    fill(host)
    assert not cleancache.put_page(fs, 1, 0, bytes(range(256)) * 2)
    assert cleancache.get_page(fs, 1, 0) is None


def fill(pool):
    """Put until even the smallest page is refused."""
    for length in (512, 64, 1):
        index = 0
        while pool.put((1, 1, length), index, (bytes(range(256)) * 2)[:length]):
            index += 1


# --- frontswap ------------------------------------------------------------------------------------


def test_what_is_stored_is_loaded_until_it_is_invalidated(eng):
    frontswap = Frontswap(eng, "g")
    frontswap.init_area(0)
    offsets = [0, 1, SPREAD - 1, SPREAD, SPREAD + 1, 2**64 - 1]
    for offset in offsets:
        assert frontswap.load(0, offset) is None
        assert frontswap.store(0, offset, page(offset))
    for _ in range(2):
        assert [frontswap.load(0, offset) for offset in offsets] == [page(offset) for offset in offsets]
    assert frontswap.store(0, 1, b"newer") and frontswap.load(0, 1) == b"newer"
    assert frontswap.invalidate_page(0, 1) and not frontswap.invalidate_page(0, 1)
    assert frontswap.load(0, 1) is None and frontswap.load(0, 0) == page(0)


def test_an_exclusive_load_takes_the_page_away(eng):
    frontswap = Frontswap(eng, "g", exclusive=True)
    frontswap.init_area(3)
    assert frontswap.store(3, 9, b"dirty") and frontswap.load(3, 9) == b"dirty" and frontswap.load(3, 9) is None


def test_an_area_is_dropped_and_used_again(eng):
    frontswap = Frontswap(eng, "g")
    for area in (0, 1):
        frontswap.init_area(area)
        assert frontswap.store(area, 5, page(area))
    frontswap.invalidate_area(0)
    with pytest.raises(ValueError, match="^area: one in use"):
        frontswap.load(0, 5)
    frontswap.init_area(0)
    assert frontswap.load(0, 5) is None and frontswap.load(1, 5) == page(1)
    with pytest.raises(ValueError, match="^area: 1 is in use"):
        frontswap.init_area(1)


def test_a_store_that_is_refused_leaves_nothing_older(eng):
    frontswap = Frontswap(eng, "g")
    frontswap.init_area(0, 512)
    assert frontswap.store(0, 8, b"older")
    fill(eng.new_pool("full", persistent=True))
    assert not frontswap.store(0, 8, bytes(range(256)) * 2)
    assert frontswap.load(0, 8) is None, "the device has what is newer"


def test_clean_pages_make_room_for_swapped_ones(eng):
    cleancache, frontswap = Cleancache(eng, "g"), Frontswap(eng, "g")
    fs = cleancache.init_fs()
    frontswap.init_area(0)
    noise = (bytes(range(256)) * 2)[:512]
    for index in range(40_000):
        cleancache.put_page(fs, 1, index, noise)
    assert eng.stats()["pools"]["cleancache:g:0"]["evicted"] > 0
    assert all(frontswap.store(0, offset, noise) for offset in range(10_000))


# --- guests ---------------------------------------------------------------------------------------


def test_a_guest_that_starts_again_finds_nothing_of_its_former_life(eng):
    def live():
        Cleancache(eng, "g").init_fs()
        frontswap = Frontswap(eng, "g")
        frontswap.init_area(0)
        assert frontswap.store(0, 0, b"only copy")

    other = Frontswap(eng, "h")
    other.init_area(0)
    assert other.store(0, 0, b"kept")
    assert in_child(live) == 0
    assert names(eng) == ["cleancache:g:0", "frontswap:g:0", "frontswap:h:0"]
    Cleancache(eng, "g")
    frontswap = Frontswap(eng, "g")
    assert names(eng) == ["frontswap:h:0"] and other.load(0, 0) == b"kept"
    frontswap.init_area(0)
    assert frontswap.load(0, 0) is None


def test_a_fork_and_a_pickle_use_the_same_pools(eng):
    cleancache, frontswap = Cleancache(eng, "g"), Frontswap(eng, "g")
    fs = cleancache.init_fs()
    frontswap.init_area(0)

    def child():
        assert cleancache.put_page(fs, 1, 0, b"clean") and frontswap.store(0, 0, b"dirty")
        cleancache.init_fs()

    assert in_child(child) == 0
    assert cleancache.init_fs() != fs, "the child's is beside it"
    cleancache, frontswap = pickle.loads(pickle.dumps((cleancache, frontswap)))
    assert cleancache.get_page(fs, 1, 0) == b"clean" and frontswap.load(0, 0) == b"dirty"


@pytest.mark.parametrize(
    "wrong, kind, argument",
    [
        (lambda eng: Cleancache(eng, 7), TypeError, "guest"),
        (lambda eng: Cleancache(eng, ""), ValueError, "guest"),
        (lambda eng: Frontswap(eng, "a:b"), ValueError, "guest"),
        (lambda eng: Frontswap(eng, "a" * 33), ValueError, "guest"),
        (lambda eng: Frontswap(eng, "g", exclusive=1), TypeError, "exclusive"),
        (lambda eng: Frontswap(eng, "g").init_area(-1), ValueError, "area"),
        (lambda eng: Frontswap(eng, "g").load([], 0), ValueError, "area"),
        (lambda eng: Cleancache(eng, "g").init_shared_fs("no uuid"), ValueError, "uuid"),
        (lambda eng: Cleancache(eng, "g").init_shared_fs(5), ValueError, "uuid"),
        (lambda eng: Cleancache(eng, "g").get_page([], 1, 0), ValueError, "fs"),
        (lambda eng: Cleancache(eng, "g", pam="none").init_fs(), engine.TmemError, "none"),
    ],
)
def test_bad_arguments_are_named(eng, wrong, kind, argument):
    with pytest.raises(kind, match=argument):
        wrong(eng)


def test_a_bad_offset_is_named(eng):
    frontswap = Frontswap(eng, "g")
    frontswap.init_area(0)
    for offset, kind in ((-1, ValueError), (2**64, ValueError), (1.5, TypeError)):
        with pytest.raises(kind, match="^offset: "):
            frontswap.store(0, offset, b"page")


def test_the_names_show_what_they_are(eng):
    assert "guest 'g'" in repr(Cleancache(eng, "g")) and "guest 'g'" in repr(Frontswap(eng, "g"))


def test_the_example_runs():
    if not (ROOT / "examples").exists():
        pytest.skip("the examples are in the source alone")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/guest.py")], capture_output=True, text=True, env=child_env(), timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("read the disk") == 4 and "sound: True" in done.stdout
