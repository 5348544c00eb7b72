"""Owns the contract of an arena that several users share: whom a mode lets in, whose files are
trusted, and that nobody leaves any behind.

Users are numbers that no account needs to have; a child of the test becomes one.
"""
import os
import pickle
import signal
import stat

import pytest

import engine
from engine.cli import commands as cli
from shm.kernel.semaphores import Semaphores
from tests.stopped import Stopped, in_child
from tests.support import SHM, SMALL, semaphores_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

GROUP, OTHER_GROUP = 61000, 61500
OWNER, PEER, STRANGER = 61001, 61002, 61003
GROUP_OF = {OWNER: GROUP, PEER: GROUP, STRANGER: OTHER_GROUP, 0: 0}


def become(uid):
    os.setgroups([])
    os.setgid(GROUP_OF[uid])
    os.setuid(uid)


def as_user(uid, call, *args, **more):
    """Run a call in a child that is this user."""
    def act():
        become(uid)
        call(*args, **more)
    assert in_child(act) == 0


def make(name, mode, **more):
    with engine.create(name, mode=mode, **{**SMALL, **more}) as eng:
        assert eng.new_pool("p", persistent=True).put((1, 2, 3), 0, b"page")


def use(name, owner=None):
    with engine.attach(name, owner=owner) as eng:
        pool = eng.pool("p")
        assert pool.get((1, 2, 3), 0) == b"page"
        assert pool.put((os.geteuid(), 0, 0), 0, b"mine") and pool.get((os.geteuid(), 0, 0), 0) == b"mine"
        assert eng.check().ok


def refused(name, owner=None, match=""):
    with pytest.raises(engine.AccessDenied, match=f"{name}.*{match}"):
        engine.attach(name, owner=owner)


@pytest.mark.parametrize(("mode", "peer", "stranger"), [
    (0o600, False, False), (0o660, True, False), (0o606, False, True), (0o666, True, True),
])
def test_whom_a_mode_lets_in(arena_name, mode, peer, stranger):
    as_user(OWNER, make, arena_name, mode)
    for user, let_in in ((PEER, peer), (STRANGER, stranger)):
        as_user(user, use if let_in else refused, arena_name, owner=OWNER)
    as_user(OWNER, use, arena_name)
    use(arena_name)         # root


@pytest.mark.parametrize(
    "mode", [0, 0o400, 0o200, 0o640, 0o644, 0o620, 0o602, 0o604, 0o664, 0o646, 0o700, 0o610, 0o670, 0o777]
)
def test_modes_for_who_only_reads_are_refused(arena_name, mode):
    with pytest.raises(ValueError, match="mode: .*writes"):
        engine.create(arena_name, mode=mode, **SMALL)
    assert not (SHM / arena_name).exists()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_no_umask_changes_what_an_arenas_files_are_for(arena_name, mode):
    def act():
        os.umask(0o777)
        make(arena_name, mode)
        with engine.attach(arena_name) as eng:
            semaphores_by_hand(eng, mode).sleep(4096, 1, 0.0)
    as_user(OWNER, act)
    files = [file.stat() for file in (SHM / arena_name, *SHM.glob(f"*.{arena_name}@*"))]
    assert [(stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid) for file in files] == [(mode, OWNER, GROUP)] * 3
    engine.unlink(arena_name)


def test_a_group_can_be_chosen(arena_name):
    make(arena_name, 0o660, group=OTHER_GROUP)
    assert {file.stat().st_gid for file in SHM.glob(f"{arena_name}*")} == {OTHER_GROUP}
    as_user(STRANGER, use, arena_name)
    as_user(PEER, refused, arena_name)


def test_a_group_by_its_name(arena_name):
    make(arena_name, 0o660, group="root")
    assert (SHM / arena_name).stat().st_gid == 0
    for group, error in (("no such group", ValueError), (-1, ValueError), (2**32 - 1, ValueError), (1.0, TypeError)):
        with pytest.raises(error, match="group"):
            engine.create(arena_name + "x", group=group, **SMALL)


def test_a_group_that_the_user_is_not_in(arena_name):
    def act():
        with pytest.raises(engine.AccessDenied, match=arena_name):
            make(arena_name, 0o660, group=OTHER_GROUP)
    as_user(OWNER, act)
    assert not list(SHM.glob(f"{arena_name}*"))


def test_an_arena_that_a_stranger_could_have_prepared(arena_name):
    """Whoever meant an arena of his own, or his group's, does not put its pages into one that
    somebody else has laid there."""
    as_user(STRANGER, make, arena_name, 0o666)
    as_user(OWNER, refused, arena_name, match=f"owner={STRANGER}")
    as_user(OWNER, refused, arena_name, owner=PEER, match=f"{STRANGER}, not to {PEER}")
    as_user(OWNER, use, arena_name, owner=STRANGER)
    refused(arena_name, owner=OWNER)            # root too, where it says whose it means


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
@pytest.mark.parametrize("user", [OWNER, 0])
def test_nobody_takes_over_a_strangers_leftover(arena_name, user, mode):
    def act():
        with pytest.raises(engine.AccessDenied, match=arena_name):
            engine.create(arena_name, exist_ok=True, mode=mode, **SMALL)
    as_user(STRANGER, make, arena_name, mode)
    as_user(user, act)


def test_two_users_of_a_group_make_it_whoever_comes_first(arena_name):
    def act():
        with engine.create(arena_name, exist_ok=True, mode=0o660, **SMALL) as eng:
            assert eng.pool("p").get((1, 2, 3), 0) == b"page"
    as_user(OWNER, make, arena_name, 0o660)
    as_user(PEER, act)


def test_a_pickled_engine_says_whose_arena_it_means(arena_name):
    as_user(OWNER, make, arena_name, 0o666)
    with engine.attach(arena_name) as eng:
        data = pickle.dumps(eng)

    def act():
        with pickle.loads(data) as mine:
            assert mine.pool("p").get((1, 2, 3), 0) == b"page"
    as_user(STRANGER, act)


@pytest.mark.parametrize(("mode", "users"), [(0o600, [0]), (0o660, [0, PEER]), (0o666, [0, PEER, STRANGER])])
def test_tmem_works_on_every_arena_that_its_user_may_write_to(arena_name, mode, users):
    as_user(OWNER, make, arena_name, mode)
    for user in users:
        for command in ("stat", "check"):
            as_user(user, cli.main, [command, arena_name], standalone_mode=False)


def test_another_user_cannot_remove_it(arena_name):
    def act():
        with pytest.raises(engine.AccessDenied, match=arena_name):
            engine.unlink(arena_name)
    as_user(OWNER, make, arena_name, 0o666)
    as_user(PEER, act)
    as_user(OWNER, use, arena_name)


# --- semaphores -----------------------------------------------------------------------------------


def semaphores_by_hand(eng, mode):
    nonce = int(next(SHM.glob(f"alive.{eng.name}@*")).name.partition("@")[2], 16)
    return Semaphores(eng.name, nonce, mode, OWNER, GROUP, eng.max_workers)


@pytest.mark.parametrize("mode", [0o660, 0o666])
@pytest.mark.parametrize(("maker", "other"), [(OWNER, PEER), (PEER, OWNER), (0, PEER)])
def test_a_semaphore_is_for_both_users_whoever_made_it(arena_name, mode, maker, other):
    def act(user, what):
        become(user)
        with engine.attach(arena_name) as eng:
            what(semaphores_by_hand(eng, mode))
    as_user(OWNER, make, arena_name, mode)
    assert in_child(lambda: act(maker, lambda found: found.sleep(4096, 1, 0.0))) == 0
    assert in_child(lambda: act(other, lambda found: found.post(4096, 1))) == 0
    with engine.attach(arena_name) as eng:
        assert semaphores_by_hand(eng, mode).sleep(4096, 1, 0.0)


def test_a_user_takes_his_semaphores_with_him(arena_name):
    """Nobody but him and root could remove them from a directory like /dev/shm."""
    as_user(OWNER, make, arena_name, 0o660, buckets=1)

    class Late(Exception):
        pass

    def ring(*_):
        if semaphores_of(arena_name):
            raise Late

    def act():
        become(PEER)
        eng = engine.attach(arena_name)
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        with pytest.raises(Late):
            eng.pool("p").put((1, 2, 3), 0, b"page")
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert [(SHM / file).stat().st_uid for file in semaphores_of(arena_name)] == [PEER]
        eng.close()
        assert semaphores_of(arena_name) == []

    with Stopped(arena_name, lambda eng: eng.pool("p").put((1, 2, 3), 0, b"other"), point=6) as holder:
        assert holder.stopped
        assert in_child(act) == 0
