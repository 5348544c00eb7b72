"""Writers and readers on the same few handles; every answer goes to the history checker.

Two pools, one persistent and one ephemeral, a few objects of a few pages, every operation of the
contract. Odd guests have a host whose allocations are refused now and then, so that refused puts
race with everything else. A guest records so many operations as its share of time allows to check,
then goes on with other objects, verified byte by byte only.

Settings: objects, pages, recorded_per_second, refuse. Facts: recorded, handles.
"""
from __future__ import annotations

import engine
from stress import history
from stress.worker import Guest

POOLS = ("shared-persistent", "shared-ephemeral")


def prepare(eng, plan) -> None:
    for name in POOLS:
        eng.new_pool(name, persistent=name.endswith("persistent"), shared=True)


def guest(g: Guest) -> None:
    if g.settings["refuse"] and g.index % 2:
        engine.register_hostops(RefusingHost(g))
    try:
        player = Player(g)
        while g.running():
            player.step()
    finally:
        engine.register_hostops(None)


def verdict(run) -> None:
    run.facts["recorded"] = len(run.history)
    run.facts["handles"] = len({op[0] for op in run.history})
    if any(violation["kind"] in ("died", "hang") for violation in run.violations):
        return                                      # the history is not whole
    for problem in history.check(run.history, {op[0] for op in run.history if op[0][0] == 1}):
        run.expect(False, "history", f"pool {POOLS[problem.handle[0]]}", str(problem))


class RefusingHost:
    """Refuses an allocation now and then."""

    def __init__(self, g: Guest):
        self._random, self._chance = g.rng.random, g.settings["refuse"]

    def obj_alloc(self, pool_id) -> bool:
        return self._random() >= self._chance

    def objnode_alloc(self, pool_id) -> bool:
        return self._random() >= self._chance

    def obj_free(self, pool_id) -> None:
        pass

    def objnode_free(self, pool_id) -> None:
        pass


class Player:
    """One guest's moves."""

    def __init__(self, g: Guest):
        self.g = g
        self.pools = [g.pool(name) for name in POOLS]
        self.buffer = bytearray(g.plan.page_size)
        seconds = min(g.plan.seconds, 60.0)
        self.limit = int(g.settings["recorded_per_second"] * seconds / g.workers)

    def step(self) -> None:
        g, rng = self.g, self.g.rng
        which, number, index = (
            rng.randrange(2),
            rng.randrange(g.settings["objects"]),
            rng.randrange(g.settings["pages"]),
        )
        recording = len(g.history) < self.limit
        pool, oid = self.pools[which], (number, which, 0 if recording else 1)
        what = rng.random()
        if what < 0.36:
            version = g.fresh()
            accepted = g.put(pool, oid, index, version)
            self._record(recording, history.put, (which, number, index), version, accepted)
        elif what < 0.66:
            got = g.read(pool, oid, index)
            self._record(recording, history.get, (which, number, index), got, False)
        elif what < 0.74:
            got = g.read_into(pool, oid, index, self.buffer)
            self._record(recording, history.get, (which, number, index), got, False)
        elif what < 0.82:
            got = g.read(pool, oid, index, True)
            self._record(recording, history.get, (which, number, index), got, True)
        elif what < 0.92:
            found = g.flush(pool, oid, index)
            self._record(recording, history.flush, (which, number, index), found)
        elif what < 0.94:
            found = g.flush_object(pool, oid)
            for page in range(g.settings["pages"]):
                self._record(recording, history.flush, (which, number, page), None if found else False)
        elif what < 0.97:
            version = g.fresh()
            accepted = g.put_range(pool, oid, 0, g.settings["pages"], version)
            for page in range(g.settings["pages"]):
                self._record(recording, history.put, (which, number, page), version, accepted)
        else:
            # A range is of one version only if a range put wrote it last; so its pages are verified
            # one by one.
            self._read_range(pool, oid, which, number, recording)

    def _read_range(self, pool, oid, which, number, recording) -> None:
        g, count = self.g, self.g.settings["pages"]
        data = g.call("get_range", pool.get_range, oid, 0, count)
        if data is None:
            return                                  # says only that some page was missing
        size = g.plan.page_size
        for page in range(count):
            got = g.content.verify(data[page * size:(page + 1) * size], oid, page, f"pool {pool.name} oid {oid}")
            self._record(recording, history.get, (which, number, page), got, False)

    def _record(self, recording, make, handle, *answer) -> None:
        if recording:
            self.g.history.append(tuple(make(handle, self.g.began, self.g.ended, *answer, self.g.index)))
