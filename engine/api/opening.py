"""Owns opening an arena whether it is there or not."""
import os

from engine.api.session import attach, create
from engine.errors import ArenaExists, ArenaNotFound
from engine.sizes import parse_size


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
    if not isinstance(exact, bool):
        raise TypeError(f"exact: True or False, not {type(exact).__name__}")
    wanted = parse_size("capacity", capacity)
    while True:
        try:
            # Root's processes attach to everybody's, but take over nobody's.
            found = attach(name, client, 0 if os.geteuid() == 0 else None)
        except ArenaNotFound:
            try:
                return create(
                    name,
                    wanted,
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
                    client=client,
                )
            except ArenaExists:
                continue
        if exact:
            _assert_equal(found, wanted, page_size)
        return found


def _assert_equal(found, capacity, page_size):
    """ValueError, with the engine closed, if an arena was made otherwise."""
    segment = found.stats()["arena"]["segment_bytes"]
    for argument, is_so, there, asked in (
        # A capacity is a whole number of segments.
        ("capacity", abs(found.capacity - capacity) < segment, found.capacity, capacity),
        ("page_size", found.page_size == page_size, found.page_size, page_size),
    ):
        if not is_so:
            found.close()
            raise ValueError(f"{argument}: arena {found.name!r} is there already, with {there} bytes, not {asked}")
