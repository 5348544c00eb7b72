"""Owns making arenas: `create`, and `open`, which attaches where there is one already."""
import dataclasses
import os

from cython.cimports.engine.api.session import Engine
from cython.cimports.engine.layout.structs import SHARDS_MAX
from engine.api.session import attach, open_engine
from engine.api.users import group_or_none, mode_argument
from engine.errors import ArenaExists, ArenaNotFound
from engine.layout.geometry import CLIENT_LAYOUT, client_bytes, ledger_bytes
from engine.member.access import client_or_none
from engine.sizes import number_in, parse_size
from shm import arena as arenas

BYTES_A_TWIN_BUCKET = 8192      # of capacity, whatever the size of a page: pages may be shorter


def _plan(
    *, capacity, page_size, buckets, max_workers, max_pools, mode, group, huge_pages, shards, max_capacity, max_pinned,
    preallocate
):
    """What the arguments of create come to, checked in this order."""
    size = parse_size("capacity", capacity)
    if not arenas.CAPACITY_MIN <= size <= arenas.CAPACITY_MAX:
        raise ValueError(
            f"capacity: {arenas.CAPACITY_MIN} (1 MiB) to {arenas.CAPACITY_MAX} (4 TiB) bytes, not {size}"
        )
    most = size if max_capacity is None else parse_size("max_capacity", max_capacity)
    if not size <= most <= arenas.CAPACITY_MAX:
        raise ValueError(f"max_capacity: the capacity, {size}, to {arenas.CAPACITY_MAX} bytes, not {most}")
    pinned = size // 8 if max_pinned is None else parse_size("max_pinned", max_pinned)
    if not 0 <= pinned <= size:
        raise ValueError(f"max_pinned: 0 to the capacity, {size} bytes, not {pinned}")
    page_size = number_in("page_size", page_size, 512, 65536, power=True)
    buckets = number_in("buckets", buckets, 1, 4096, power=True)
    max_workers = number_in("max_workers", max_workers, 1, 4096)
    max_pools = number_in("max_pools", max_pools, 1, 65535)
    mode = mode_argument(mode)
    group = group_or_none(group)
    for name, value in (("huge_pages", huge_pages), ("preallocate", preallocate)):
        if not isinstance(value, bool):
            raise TypeError(f"{name}: True or False, not {type(value).__name__}")
    pages = most // page_size
    if shards is None:
        shards = min(SHARDS_MAX, 1 << max(0, (pages // 32).bit_length() - 1))
    shards = number_in("shards", shards, 1, SHARDS_MAX, power=True)
    # Room for twice the ghosts there can be, so that none is forgotten before its time.
    ghosts = max(64, 1 << (2 * pages // shards - 1).bit_length())
    twins = max(16, 1 << (most // BYTES_A_TWIN_BUCKET - 1).bit_length())
    return arenas.Plan(
        capacity=most,
        limit=size,
        max_workers=max_workers,
        bounce_bytes=page_size,
        ledger_bytes=ledger_bytes(max_pools),
        client_bytes=client_bytes(max_pools, buckets, shards, ghosts, twins),
        client_layout=CLIENT_LAYOUT,
        client=(page_size, buckets, max_pools, shards, ghosts, twins, pinned, int(preallocate)),
        mode=mode,
        group=-1 if group is None else group,
        huge=huge_pages,
    )


def create(
    name,
    capacity="64MiB",
    *,
    page_size=4096,
    buckets=256,
    max_workers=256,
    max_pools=1024,
    mode=0o600,
    group=None,
    huge_pages=True,
    shards=None,
    max_capacity=None,
    max_pinned=None,
    preallocate=False,
    client=None,
    exist_ok=False,
):
    """Make an arena and attach to it.

    name: 1 to 200 letters, digits, '_', '.', '-'. capacity: bytes for pages and all that describes
    them (an int, or text such as "1GiB"), 1 MiB to 4 TiB. max_capacity: what Engine.resize may make
    of it, as capacity; None: no more than that.
    page_size: bytes, a power of two from 512 to 65536. buckets: of each pool, a power of two from 1
    to 4096. max_workers: 1 to 4096.
    max_pools: 1 to 65535. mode: who may attach, and so write: 0o600 this user (and root), 0o660 a
    group besides, 0o666 everybody; there is no attaching without writing. group: which group, by
    name or number, one that this user is in; None: this process's.
    huge_pages: ask the system for pages of 2 MiB where it has them to give (arenas of 64 MiB and
    more; memory is then taken in steps of 2 MiB). shards: of the queues of evictable pages, a power
    of two from 1 to 64; None: as many as the capacity is good for.
    preallocate: give the whole capacity its memory now: a cost at the start instead of many later,
    and a file system that is too full is an error here. None of it goes back by itself then.
    max_pinned: bytes that views may keep from being used for anything else (Pool.view), as
    capacity, 0 to capacity; None: an eighth of it.
    client: whom this engine acts for, see attach.
    exist_ok: where an arena of that name is there already, attach to it instead, as to a leftover
    of a run that was killed; it stays as it was made, whatever the other arguments say, but its
    page_size must be the one given (ValueError), and its owner no stranger (as of attach). Raises
    ArenaExists, AccessDenied, TmemError (no memory for the tables), TypeError, ValueError.
    """
    arenas.check_name(name)
    plan = _plan(
        capacity=capacity,
        page_size=page_size,
        buckets=buckets,
        max_workers=max_workers,
        max_pools=max_pools,
        mode=mode,
        group=group,
        huge_pages=huge_pages,
        shards=shards,
        max_capacity=max_capacity,
        max_pinned=max_pinned,
        preallocate=preallocate,
    )
    client = client_or_none(client)
    if not isinstance(exist_ok, bool):
        raise TypeError(f"exist_ok: True or False, not {type(exist_ok).__name__}")
    if not exist_ok:
        return _make(name, plan, client, preallocate)
    found = _attach_or_make(name, plan, client, preallocate)
    if found.page_size != plan.bounce_bytes:
        raise _differs(found, "page_size", f"pages of {found.page_size} bytes", page_size)
    return found


def open(
    name,
    capacity="64MiB",
    *,
    exact=False,
    client=None,
    page_size=4096,
    buckets=256,
    max_workers=256,
    max_pools=1024,
    mode=0o600,
    group=None,
    huge_pages=True,
    shards=None,
    max_capacity=None,
    max_pinned=None,
    preallocate=False,
):
    """Attach to the arena of this name, or make it if it is not there. Any number of processes may
    do so at once: one makes it.

    An arena that is there stays as it was made, whatever the other arguments say, which are those
    of `create`. exact: then a capacity or a page_size that differs is an error (ValueError). Raises
    what `create` and `attach` raise."""
    arenas.check_name(name)
    plan = _plan(
        capacity=capacity,
        page_size=page_size,
        buckets=buckets,
        max_workers=max_workers,
        max_pools=max_pools,
        mode=mode,
        group=group,
        huge_pages=huge_pages,
        shards=shards,
        max_capacity=max_capacity,
        max_pinned=max_pinned,
        preallocate=preallocate,
    )
    client = client_or_none(client)
    if not isinstance(exact, bool):
        raise TypeError(f"exact: True or False, not {type(exact).__name__}")
    found = _attach_or_make(name, plan, client, preallocate)
    # A capacity is a whole number of segments.
    if exact and abs(found.capacity - plan.limit) >= found.stats()["arena"]["segment_bytes"]:
        raise _differs(found, "capacity", f"{found.capacity} bytes", plan.limit)
    if exact and found.page_size != plan.bounce_bytes:
        raise _differs(found, "page_size", f"pages of {found.page_size} bytes", page_size)
    return found


# Of `create`, what is not said.
DEFAULTS = {"page_size": 4096, "buckets": 256, "max_workers": 256, "max_pools": 1024, "mode": 0o600, "group": None,
            "huge_pages": True, "shards": None, "max_capacity": None, "max_pinned": None, "preallocate": False}


def create_again(name, secret, capacity, options):
    """Make an arena with the secret of another one, so that what hashes in it begin with is the
    same. `options`: those of DEFAULTS."""
    plan = dataclasses.replace(_plan(capacity=capacity, **options), secret=secret)
    return _make(name, plan, None, options["preallocate"])


def _make(name, plan, client, preallocate):
    arena = arenas.create(name, plan)
    made: Engine = None
    try:
        made = open_engine(arena, client)
        if preallocate:
            made.fill()
        return made
    except BaseException:
        arenas.unlink(name)
        if made is not None:
            made.close()
        raise


def _attach_or_make(name, plan, client, preallocate):
    while True:
        # Somebody may make it, or remove it, between the one and the other.
        try:
            # Root's processes attach to everybody's, but take over nobody's.
            return attach(name, client, 0 if os.geteuid() == 0 else None)
        except ArenaNotFound:
            pass
        try:
            return _make(name, plan, client, preallocate)
        except ArenaExists:
            continue


def _differs(found, argument, there, asked):
    """The error for an arena that was made otherwise, with the engine closed."""
    found.close()
    return ValueError(f"{argument}: arena {found.name!r} is there already, with {there}, not {asked}")
