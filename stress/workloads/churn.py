"""Pools and objects that come and go while others use them.

A guest keeps a few pools of its own, each of a random kind, fills and empties objects in them,
verifies, destroys the pool and creates the next. Meanwhile everybody uses everybody's pools, gets
`PoolDestroyed` or `PoolNotFound` at any moment and nothing worse, and fights over a few contested
names. The third word of every oid is a number unique to the pool, so a page that turns up in
another pool is noticed.

Settings: pools, contested, objects, pages. Facts: pools_created, pools_destroyed, met_destroyed.
"""
from __future__ import annotations

import engine
from stress.content import describe
from stress.worker import Guest


def prepare(eng, plan) -> None:
    pass


def guest(g: Guest) -> None:
    churner = Churner(g)
    while g.running():
        churner.step()
    churner.leave()
    g.facts.update(pools_created=churner.created, pools_destroyed=churner.destroyed, met_destroyed=churner.met)


def verdict(run) -> None:
    if run.violations:
        return
    for number in range(run.plan.settings["contested"]):
        try:
            run.eng.pool(f"contested-{number}").destroy()
        except engine.PoolNotFound:
            pass
    run.expect(not run.eng.pools(), "leaked", "arena", f"pools {[pool.name for pool in run.eng.pools()]} are left")
    total = run.eng.stats()["total"]
    for what in ("pages", "objects", "objnodes"):
        run.expect(total[what] == 0, "leaked", "arena", f"{total[what]} {what} with no pool left")


class Churner:
    """One guest's pools: name -> (pool, unique number, pages that must be there)."""

    def __init__(self, g: Guest):
        self.g = g
        self.own: dict[str, tuple] = {}
        self.count = self.created = self.destroyed = self.met = 0

    def step(self) -> None:
        g, what = self.g, self.g.rng.random()
        if len(self.own) < g.settings["pools"]:
            self.create()
        elif what < 0.02:
            self.destroy(g.rng.choice(list(self.own)))
        elif what < 0.85:
            self.work(g.rng.choice(list(self.own)))
        elif what < 0.95:
            self.visit()
        else:
            self.contest()

    def create(self) -> None:
        g = self.g
        self.count += 1
        name, number = f"own-{g.index}-{self.count}", (g.index + 1) << 32 | self.count
        pool = g.call("pool", lambda: g.eng.new_pool(name, persistent=g.rng.random() < 0.5,
                                                     shared=g.rng.random() < 0.7, client=g.index))
        self.created += 1
        self.own[name] = pool, number, {}

    def destroy(self, name: str) -> None:
        g = self.g
        pool, number, _ = self.own.pop(name)
        g.call("pool", pool.destroy)
        self.destroyed += 1
        for call in (lambda: pool.get((1, 1, number), 0), lambda: pool.put((1, 1, number), 0, b"x"),
                     lambda: pool.flush_object((1, 1, number)), pool.destroy):
            try:
                answer = call()
            except engine.PoolDestroyed:
                continue
            g.expect(False, "zombie", f"pool {name}", f"a call after destroy answered {answer!r}, not PoolDestroyed")

    def work(self, name: str) -> None:
        g, rng = self.g, self.g.rng
        pool, number, held = self.own[name]
        oid, index = (rng.randrange(g.settings["objects"]), 0, number), rng.randrange(g.settings["pages"])
        what = rng.random()
        if what < 0.6:
            version = g.fresh()
            held[oid, index] = version if g.put(pool, oid, index, version) else 0
        elif what < 0.9:
            got, wanted = g.read(pool, oid, index), held.get((oid, index), 0)
            if pool.persistent or got:
                g.expect(got == wanted, "stale" if got else "lost", f"pool {name} {describe(oid, index)}",
                         f"version {got} came back, {wanted} was put last (0: no page)")
            if not pool.shared and not pool.persistent:
                held[oid, index] = 0                # the get was exclusive
        else:
            g.flush_object(pool, oid)
            for handle in [handle for handle in held if handle[0] == oid]:
                held[handle] = 0

    def visit(self) -> None:
        """Read in somebody's pool; it may vanish at any moment."""
        g, rng = self.g, self.g.rng
        pools = [pool for pool in g.call("pool", g.eng.pools) if pool.name.startswith("own-")]
        if not pools:
            return
        pool = rng.choice(pools)
        _, owner, count = pool.name.split("-")
        oid = rng.randrange(g.settings["objects"]), 0, (int(owner) + 1) << 32 | int(count)
        try:
            g.read(pool, oid, rng.randrange(g.settings["pages"]), False)
            pool.object_info(oid)
            g.eng.pool(pool.name)
        except (engine.PoolDestroyed, engine.PoolNotFound):
            self.met += 1

    def contest(self) -> None:
        """Create, use and destroy a name that everybody wants."""
        g, rng = self.g, self.g.rng
        name = f"contested-{rng.randrange(g.settings['contested'])}"
        oid, index = (7, 7, 7), rng.randrange(200)
        try:
            try:
                pool = g.call("pool", g.eng.new_pool, name)
            except engine.PoolExists:
                pool = g.eng.pool(name)
            for _ in range(4):
                g.put(pool, oid, index, g.fresh())
                g.read(pool, oid, index)
            if rng.random() < 0.5:
                g.call("pool", pool.destroy)
        except (engine.PoolDestroyed, engine.PoolNotFound):
            self.met += 1

    def leave(self) -> None:
        for name in list(self.own):
            self.destroy(name)
