"""Guests that are clients of different weights in a full arena: is each left what is its own?

Five guests, each a client, through an engine that acts for it. *greedy* puts new pages as fast as
it can, and *heavy*, of another weight, does too. *light* keeps a working set below its share and
reads all of it each time the greedy one has put as many pages as the arena holds: without shares
hardly a page would be there. *frozen* has pages from before it was frozen, and tries to put new
ones. *capped* puts more than its cap.

What is promised: whoever has fewer pages for its weight than others is not asked for any. Where
that ends: shares hold in each shard, so the working set is well below the share (`light_part`) and
shards are few; and a segment that has to change its size class takes its pages along, whoever they
belong to. Most pages are whole, so segments change seldom once the arena is full:
`missing_percent_max` is what is left for that, and `missing_start_max` pages, a few segments, may
go while segments find their classes. Heavy and greedy must end at the ratio of their weights,
within `ratio_off_max`. A page counts for a cap once it is in a queue, and its putter may find the
queue locked: until its next put there may be some more.

Settings: weights, light_part, frozen_pages, cap, cap_slack, missing_percent_max, missing_start_max,
ratio_off_max, short (part of greedy's and heavy's pages that are short). Facts: sweeps,
light_pages, light_share, light_reads, light_missing, light_missing_worst (in one sweep),
frozen_missing, frozen_refused, capped_most, capped_late, pages of greedy and heavy at the end.
"""
from __future__ import annotations

from time import monotonic, sleep

import engine
from stress import board as words
from stress.content import MIN_BYTES, Content, Oid, describe
from stress.worker import Guest

GREEDY, LIGHT, HEAVY, FROZEN, CAPPED = NAMES = ("greedy", "light", "heavy", "frozen", "capped")
OBJECT_PAGES = 128
VERSION = 1                     # of what the host puts for the frozen client
SETTLED_S = 5.0                 # a queue that is locked so long has a holder that hangs
DESCRIPTOR_BYTES = 128          # of a page: its descriptor and its part of the tree


def prepare(eng, plan) -> None:
    content = Content(plan.seed, plan.page_size)
    for index, name in enumerate(NAMES):
        client = eng.client(
            index + 1, weight=plan.settings["weights"][name], cap=plan.settings["cap"] if name == CAPPED else 0
        )
        pool = eng.new_pool(name, client=index + 1)
        if name == FROZEN:
            for n in range(plan.settings["frozen_pages"]):
                oid, at = _handle(index, n)
                pool.put(oid, at, content.page(oid, at, VERSION))
            client.freeze()


def guest(g: Guest) -> None:
    with engine.attach(g.eng.name, client=g.index + 1) as mine:
        g.eng = mine
        {GREEDY: fill, LIGHT: keep, HEAVY: fill, FROZEN: try_in_vain, CAPPED: stay_below}[NAMES[g.index]](g)


def pages_of(eng) -> int:
    """Pages that the arena holds, about."""
    return eng.capacity // (eng.page_size + DESCRIPTOR_BYTES)


def share_of(eng, settings, name: str) -> int:
    """Pages that are a client's if all want more than there is."""
    weights = settings["weights"]
    return pages_of(eng) * weights[name] // sum(weights.values())


def _handle(client: int, n: int) -> tuple[Oid, int]:
    return (client + 1, n // OBJECT_PAGES, 3), n % OBJECT_PAGES


def fill(g: Guest) -> None:
    """New pages for ever; none is asked for again, and none is refused."""
    pool, n = g.pool(NAMES[g.index]), 0
    while g.running():
        _put(g, pool, n, g.rng.randint(MIN_BYTES, g.plan.page_size) if g.rng.random() < g.settings["short"] else 0)
        n += 1


def keep(g: Guest) -> None:
    """A working set, read as often as the arena has been filled anew; what is missing is counted
    and put again."""
    pool = g.pool(LIGHT)
    put = {}
    for n in range(int(g.settings["light_part"] * share_of(g.eng, g.settings, LIGHT))):
        put[n] = _put(g, pool, n)
    facts = dict.fromkeys(("sweeps", "light_reads", "light_missing", "light_missing_worst"), 0)
    more = True
    while more:                                 # and once more at the end
        more = _turned_over(g)
        order, missing = list(put), 0
        g.rng.shuffle(order)
        for n in order:
            got = g.read(pool, *_handle(g.index, n))
            g.expect(got in (0, put[n]), "stale", f"pool {LIGHT} {describe(*_handle(g.index, n))}",
                     f"version {got} came back, {put[n]} was put last")
            if not got:
                missing += 1
                put[n] = _put(g, pool, n)
        facts["sweeps"] += 1
        facts["light_reads"] += len(order)
        facts["light_missing"] += missing
        facts["light_missing_worst"] = max(facts["light_missing_worst"], missing)
    g.facts.update(facts, light_pages=len(put))


def _put(g: Guest, pool, n: int, length: int = 0) -> int:
    version = g.fresh()
    oid, index = _handle(g.index, n)
    g.expect(g.put(pool, oid, index, version, length), "refused", f"pool {pool.name}",
             "a put was refused, and there are ephemeral pages to evict")
    return version


def _turned_over(g: Guest) -> bool:
    """Wait until the greedy one has put once more what the arena holds. False: the run is over
    before."""
    greedy, most = g.board.rows[NAMES.index(GREEDY)].words, g.plan.ops or 1 << 62
    until = greedy[words.OPS] + pages_of(g.eng)
    while g.running() and greedy[words.OPS] < min(until, most):
        sleep(0.001)
    return g.running() and greedy[words.OPS] >= until


def try_in_vain(g: Guest) -> None:
    """New pages are refused; those from before are there, and can be put over."""
    pool, count = g.pool(FROZEN), g.settings["frozen_pages"]
    held = dict.fromkeys(range(count), VERSION)
    refused = 0
    while g.running():
        oid, index = _handle(g.index, count + g.rng.randrange(1000))
        where = f"pool {FROZEN} {describe(oid, index)}"
        g.expect(not g.put(pool, oid, index, g.fresh()), "unfair", where, "a client that is frozen has put a new page")
        g.expect(not g.read(pool, oid, index), "zombie", where, "a page whose put was refused")
        refused += 1
        if not held:
            continue
        n = g.rng.choice(list(held))
        oid, index = _handle(g.index, n)
        got = g.read(pool, oid, index)
        g.expect(
            got in (0, held[n]),
            "stale",
            f"pool {FROZEN} {describe(oid, index)}",
            f"version {got} came back, {held[n]} was put last",
        )
        version = g.fresh()
        # Put over a page that has gone since, it is a new one, and refused.
        if got and g.put(pool, oid, index, version):
            held[n] = version
        else:
            del held[n]
    g.facts.update(frozen_refused=refused, frozen_missing=count - len(held))


def stay_below(g: Guest) -> None:
    """More pages than the cap allows; of how many there are is asked again and again."""
    pool, n, most, late = g.pool(CAPPED), 0, 0, 0
    cap, slack = g.settings["cap"], g.settings["cap_slack"]
    while g.running():
        _put(g, pool, n)
        n += 1
        if n % 64 == 0:
            pages, until = _pages(g), monotonic() + SETTLED_S
            while pages > cap + slack and monotonic() < until:
                late += 1
                _put(g, pool, n)
                n += 1
                pages = _pages(g)
            most = max(most, pages)
            g.expect(
                pages <= cap + slack,
                "unfair",
                f"pool {CAPPED}",
                f"{pages} pages, and its client's cap is {cap} (and {slack} on their way)",
            )
            sleep(0.001)                        # it need not be quick
    g.facts.update(capped_most=most, capped_late=late)


def _pages(g: Guest) -> int:
    return g.eng.stats()["pools"][CAPPED]["pages"]


def verdict(run) -> None:
    facts, settings = run.facts, run.plan.settings
    pools = run.eng.stats()["pools"]
    facts.update(light_share=share_of(run.eng, settings, LIGHT),
                 **{f"{name}_pages_at_end": pools[name]["pages"] for name in (GREEDY, HEAVY)})
    if run.violations:
        return
    limit, start = settings["missing_percent_max"] / 100, settings["missing_start_max"]
    facts["light_missing_percent"] = round(100 * facts["light_missing"] / facts["light_reads"], 3)
    run.expect(
        facts["light_missing"] <= limit * facts["light_reads"] + start,
        "unfair",
        f"pool {LIGHT}",
        f"{facts['light_missing']} of {facts['light_reads']} pages were missing, at most "
        f"{settings['missing_percent_max']} % "
        f"and {start} may be: {facts['light_pages']} pages, and its share is {facts['light_share']}",
    )
    # What goes of the frozen one's does not come back, so it may lose as much with every sweep of
    # the light one's.
    run.expect(
        facts["frozen_missing"] <= limit * settings["frozen_pages"] * facts["sweeps"] + start,
        "unfair",
        f"pool {FROZEN}",
        f"{facts['frozen_missing']} of {settings['frozen_pages']} pages have gone in "
        f"{facts['sweeps']} fillings of the arena",
    )
    run.expect(pools[FROZEN]["pages"] <= settings["frozen_pages"], "unfair", f"pool {FROZEN}",
               f"{pools[FROZEN]['pages']} pages, and it was frozen with {settings['frozen_pages']}")
    if min(pools[name]["evicted"] for name in (GREEDY, HEAVY)) > pages_of(run.eng):
        weights = settings["weights"]
        ratio = pools[HEAVY]["pages"] / max(1, pools[GREEDY]["pages"]) * weights[GREEDY] / weights[HEAVY]
        facts["ratio_to_weights"] = round(ratio, 3)
        run.expect(
            1 / (1 + settings["ratio_off_max"]) <= ratio <= 1 + settings["ratio_off_max"],
            "unfair",
            "arena",
            f"{pools[HEAVY]['pages']} and {pools[GREEDY]['pages']} pages with weights "
            f"{weights[HEAVY]} and {weights[GREEDY]}",
        )
