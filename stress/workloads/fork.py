"""Workers that fork: parent and child go on using the arena through the engine they both hold.

A guest puts pages into a persistent pool, forks, and works on while the child reads them, puts its
own and sometimes forks a child itself. When the child is gone, its pages must be there, and its
worker slot must be free: a run forks more children than the arena has slots.

Settings: child_ops. Facts: children.
"""
from __future__ import annotations

import os
from time import monotonic_ns

from stress import board as words
from stress.content import describe
from stress.violation import Violation
from stress.worker import Guest, guard

PAGES = 40


def prepare(eng, plan) -> None:
    eng.new_pool("fork", persistent=True, shared=True)


def guest(g: Guest) -> None:
    pool, children = g.pool("fork"), 0
    while g.running():
        children += 1
        oid, child_oid = (g.index, children, 0), (g.index, children, 1)
        put = {index: g.fresh() for index in range(PAGES)}
        for index, version in put.items():
            put[index] = version if g.put(pool, oid, index, version) else 0
        began = monotonic_ns()
        pid = os.fork()
        if not pid:
            leave_with(g, child, pool, oid, child_oid, put)
        for index, version in put.items():          # both sides read while both put
            _expect(g, pool, oid, index, version)
            g.put(pool, (g.index, 0, 2), index, g.fresh())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        g.row.count("fork", monotonic_ns() - began)
        g.row[words.FORKS] += 1
        if status:
            raise Violation("died", f"guest {g.index}", f"a forked child ended with {status}")
        for index in range(g.settings["child_ops"]):
            _expect(g, pool, child_oid, index, index + 1)
        g.flush_object(pool, oid)
        g.flush_object(pool, child_oid)
    g.flush_object(pool, (g.index, 0, 2))
    g.facts["children"] = children


def verdict(run) -> None:
    if run.violations:
        return
    count = run.eng.pool("fork").obj_count
    run.expect(count == 0, "leaked", "pool fork", f"{count} objects after everything was flushed")


def child(g: Guest, pool, oid, child_oid, put) -> None:
    """What a forked child does: reads what its parent put, puts pages of its own, sometimes forks
    as well."""
    for index in range(g.settings["child_ops"]):
        accepted = pool.put(child_oid, index, g.content.page(child_oid, index, index + 1))
        g.expect(accepted, "lost", f"pool fork {describe(child_oid, index)}", "a put was refused in a roomy arena")
        wanted = put[index % PAGES]
        _expect(g, pool, oid, index % PAGES, wanted, quiet=True)
    if g.rng.random() < 0.2:
        pid = os.fork()
        if not pid:
            leave_with(g, grandchild, pool, child_oid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        g.expect(status == 0, "died", f"guest {g.index}", f"a grandchild ended with {status}")


def grandchild(g: Guest, pool, child_oid) -> None:
    for index in range(g.settings["child_ops"]):
        _expect(g, pool, child_oid, index, index + 1, quiet=True)


def leave_with(g: Guest, work, *args) -> None:
    """End a forked process: 0 if the work went well. The counters belong to the parent, so the
    child counts nothing."""
    code = 1
    try:
        g.rng.seed(f"child {g.rng.random()}")
        code = 0 if guard(g, work, *args) else 1
    finally:
        os._exit(code)


def _expect(g: Guest, pool, oid, index, wanted, quiet=False) -> None:
    if quiet:
        data = pool.get(oid, index)
        got = g.content.verify(data, oid, index) if data is not None else 0
    else:
        got = g.read(pool, oid, index)
    g.expect(got == wanted, "stale" if got else "lost", f"pool fork {describe(oid, index)}",
             f"version {got} came back, {wanted} was put last (0: no page)")
