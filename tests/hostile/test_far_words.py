"""Owns the promise that no word of a far record, a far queue, the dead ring or a far descriptor can
make a call crash, hang or give wrong bytes, and that a repair puts an arena right again: each word
of them by itself, with the values that counts and offsets are wrong by.
"""
import contextlib
import os
import random
import signal
import struct

import pytest

import engine
from tests.hostile import mutate
from tests.hostile.scene import PAGE, Scene
from tests.hostile.structs import SIZES, offset
from tests.stopped import in_child

EVERY = bool(os.environ.get("EVERY_POINT"))
MASK = 2**64 - 1
SECONDS = 60            # for all values of a word; a hang ends then


def words(scene):
    """{name: offset} of every word there is to attack: of arrays the first and the last."""
    record, ring = scene.things["FarRecord"][0], scene.things["DeadRing"][0]
    found = {f"FarRecord {at}": record + at for at in (*range(0, offset("FarRecord", "target"), 8),
                                                       offset("FarRecord", "target"), SIZES["FarRecord"] - 8)}
    found |= {f"DeadRing {at}": ring + at for at in (*range(32, 96, 8), SIZES["DeadRing"] - 32)}
    node = next(at for at in scene.things["FarNode"] if scene.word(at))
    found |= {f"FarNode {at}": node + at for at in range(0, SIZES["FarNode"], 8)}
    queue = next(at for at in scene.things["FarQueue"] if scene.word(at))
    found |= {f"Queue {at}": queue + at for at in range(0, SIZES["Queue"] - offset("Queue", "far_head"), 8)}
    page = scene.pages[next(handle for handle in sorted(scene.pages) if handle[0] == "r")][0]
    found |= {f"Pampd {at}": page + at for at in range(0, SIZES["Pampd"], 8)}
    return found


def values(old):
    near = [old + 1, old - 1, old + 64, old - 64]
    return {value & MASK for value in (0, 1, 7, 1023, 1 << 20, 1 << 63, MASK, old ^ 1 << 47, *near)} - {old}


def look(scene, pool, wrong):
    """Every far page once: right or a miss. `wrong`: handles of which anything may be got."""
    for key, oid, index in sorted(scene.content):
        if key == "r":
            with contextlib.suppress(engine.TmemError):
                found = pool.get(oid, index)
                assert found in (None, scene.content[key, oid, index]) or (key, oid, index) in wrong


def calls(scene, eng, at):
    """By an engine of its own: what one remembers of objects is not true of those put back."""
    try:
        pool = eng.pool("r")
    except engine.ArenaCorrupted:       # where its tier is
        assert not eng.check().ok and eng.check(repair=True).lost
        pool = eng.pool("r")
        assert pool.far is None
    for name in "pqfzdl":       # makes room
        with contextlib.suppress(engine.TmemError):
            eng.pool(name).clear()
    for _ in range(3):          # the second time pages may come home
        look(scene, pool, scene.excused([(at, 8)]))
    with contextlib.suppress(engine.TmemError):
        assert isinstance(pool.far_nodes, list)

    def fill():
        for n in range(130):
            pool.put_range((1000 + n, 0, 0), 0, (b"%d/" % n * 8 * PAGE)[: 8 * PAGE])
            if n % 8 == 0:
                eng.spill()
    for call in (eng.stats, eng.check, fill, lambda: pool.flush_object((0, 0, 0)), eng.tend,
                 lambda: eng.pool("r").get((1, 0, 0), 0, free=True), eng.spill, pool.clear, eng.tend):
        with contextlib.suppress(engine.TmemError):
            call()
    eng.check(repair=True)
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:4]]
    eng.tend()
    assert pool.put((5, 5, 5), 0, b"after") and pool.get((5, 5, 5), 0) == b"after"


@pytest.mark.parametrize("kind", ["FarRecord", "FarNode", "DeadRing", "Queue", "Pampd"])
@pytest.mark.timeout(300)
def test_every_word(arena_name, kind):
    def attack():
        os.environ.pop("TMEM_CHECK_LOCKS", None)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        scene = Scene(arena_name, "sparse")
        for name, at in words(scene).items():
            if name.split()[0] != kind:
                continue
            chosen = sorted(values(scene.word(at)))
            for value in chosen if EVERY else random.Random(name).sample(chosen, 6):
                signal.alarm(SECONDS)
                scene.restore()
                os.pwrite(scene.fd, struct.pack("<Q", value), at)
                try:
                    with engine.attach(scene.name) as eng:
                        calls(scene, eng, at)
                except BaseException as error:
                    error.add_note(f"{name}: {value:#x}")
                    raise
        scene.restore()
        scene.close()
    try:
        assert in_child(attack) == 0
    finally:
        mutate.clean(arena_name)
