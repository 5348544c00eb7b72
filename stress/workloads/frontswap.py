"""Guests that swap to a private persistent pool: a page whose put succeeded must come back until it
is flushed.

A guest remembers the version it last put under every handle, or that the put was refused (then the
page must not be there: it would be older content). At the end every page is read once more, area by
area, and each area is flushed.

Settings: areas, pages, sparse, short. Facts: pages_out (accepted), pages_back (verified gets),
refused.
"""
from __future__ import annotations

from stress.content import MIN_BYTES, describe
from stress.worker import Guest


def prepare(eng, plan) -> None:
    for guest in range(plan.workers):
        eng.new_pool(f"swap-{guest}", persistent=True, shared=False, client=guest)


def guest(g: Guest) -> None:
    swap = Swap(g)
    while g.running():
        swap.step()
    swap.read_all()
    g.facts.update(pages_out=swap.out, pages_back=swap.back)


def verdict(run) -> None:
    for guest in range(run.plan.workers):
        pool = run.eng.pool(f"swap-{guest}")
        if not run.violations:
            run.expect(pool.obj_count == 0, "leaked", f"pool {pool.name}",
                       f"{pool.obj_count} objects after every area was flushed")


class Swap:
    """What one guest has swapped out."""

    def __init__(self, g: Guest):
        self.g = g
        self.pool = g.pool(f"swap-{g.index}")
        self.oids = [(g.index + 1, area, 2 ** 64 - 1 - area) for area in range(g.settings["areas"])]
        self.held: dict[tuple, int] = {}            # handle -> version, 0: refused or flushed, so not there
        self.buffer = bytearray(g.plan.page_size)
        self.out = self.back = 0

    def step(self) -> None:
        g, rng = self.g, self.g.rng
        oid = rng.choice(self.oids)
        index = rng.randrange(g.settings["pages"])
        if index < g.settings["pages"] * g.settings["sparse"]:
            index = 2 ** 64 - 1 - index * (1 << 40)
        what = rng.random()
        if what < 0.45:
            self.swap_out(oid, index)
        elif what < 0.9:
            self.swap_in(oid, index)
        elif what < 0.9995:
            found = g.flush(self.pool, oid, index)
            version = self.held.get((oid, index), 0)
            g.expect(found is bool(version), "lost" if version else "zombie", self._where(oid, index),
                     f"a flush answered {found}, the page was {'there' if version else 'not there'}")
            self.held[oid, index] = 0
        else:
            self.flush_area(oid)

    def swap_out(self, oid, index) -> None:
        g = self.g
        length = g.rng.randint(MIN_BYTES, g.plan.page_size) if g.rng.random() < g.settings["short"] else 0
        version = g.fresh()
        accepted = g.put(self.pool, oid, index, version, length)
        self.held[oid, index] = version if accepted else 0
        self.out += accepted
        if not accepted:
            self.swap_in(oid, index)                # must not be there

    def swap_in(self, oid, index) -> None:
        g, wanted = self.g, self.held.get((oid, index), 0)
        free = g.rng.random() < 0.1
        if g.rng.random() < 0.3 and not free:
            got = g.read_into(self.pool, oid, index, self.buffer)
        else:
            got = g.read(self.pool, oid, index, True if free else None)
        g.expect(got == wanted, "lost" if not got else "stale" if wanted else "zombie", self._where(oid, index),
                 f"version {got} came back, {wanted} was put last (0: no page)")
        self.back += bool(got)
        if free:
            self.held[oid, index] = 0

    def flush_area(self, oid) -> None:
        g = self.g
        mine = [handle for handle, version in self.held.items() if handle[0] == oid and version]
        found = g.flush_object(self.pool, oid)
        g.expect(found is bool(mine), "lost" if mine else "zombie", f"pool {self.pool.name} oid {oid}",
                 f"flush_object answered {found}, the area held {len(mine)} pages")
        for handle in mine:
            self.held[handle] = 0

    def read_all(self) -> None:
        """The end: every page comes back once more, then every area is flushed."""
        for (oid, index), wanted in self.held.items():
            if self.g.board.control[1] == 2:
                return                              # somebody has found a violation
            got = self.g.read(self.pool, oid, index, False)
            self.g.expect(got == wanted, "lost" if not got else "stale", self._where(oid, index),
                          f"at the end version {got} came back, {wanted} was put last (0: no page)")
        for oid in self.oids:
            count = sum(1 for handle, version in self.held.items() if handle[0] == oid and version)
            info = self.pool.object_info(oid)
            self.g.expect((info[0] if info else 0) == count, "lost", f"pool {self.pool.name} oid {oid}",
                          f"object_info says {info}, the area holds {count} pages")
            self.flush_area(oid)

    def _where(self, oid, index) -> str:
        return f"pool {self.pool.name} {describe(oid, index)}"
