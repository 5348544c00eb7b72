"""Owns Frontswap: the pages that a guest would write to its swap device, kept in memory instead.

A swap area has a persistent pool. Its pages are the only copies: what a store has accepted can be
loaded until it is invalidated. So a store may be refused, and the guest then writes to the device.
"""
from engine.errors import PoolExists
from engine.frontends.guests import drop_pool, drop_pools, prefix_of
from engine.sizes import number_in

AREA_MAX = 2**32 - 1
OFFSET_MAX = 2**64 - 1
# Neighbours on the device lie in so many objects, one after the other, so that processes that swap
# neighbouring pages do not wait for one lock.
SPREAD = 64


class Frontswap:
    """The front end of a guest's swap areas.

    eng: an engine of the arena. guest: the guest's name, one for each that lives: what a former
    guest of that name has left, which died, is destroyed, since nobody can want it any more.
    exclusive: a load takes the page away, so no memory holds it twice; the guest must then count it
    as dirty. options: of Engine.new_pool, for all pools: pam, client.

    A guest may fork, and use its front end in the child; it may be pickled to a child, too. Calls
    raise what those of a pool raise: TypeError and ValueError, naming the argument."""

    def __init__(self, eng, guest, exclusive=False, **options):
        if not isinstance(exclusive, bool):
            raise TypeError(f"exclusive: True or False, not {type(exclusive).__name__}")
        self.eng = eng
        self.guest = guest
        self.exclusive = exclusive
        self._options = options
        self._prefix = prefix_of("frontswap", guest)
        self._areas = {}            # {number of an area: its pool}
        drop_pools(eng, self._prefix)

    def init_area(self, area, page_size=None):
        """Begin to use a swap area, which is empty. area: its number, from 0 to 2**32-1. page_size:
        as of Engine.new_pool. ValueError if the guest uses it already."""
        name = f"{self._prefix}{number_in('area', area, 0, AREA_MAX)}"
        try:
            pool = self.eng.new_pool(name, persistent=True, shared=False, page_size=page_size, **self._options)
        except PoolExists:
            raise ValueError(f"area: {area} is in use; invalidate_area({area}) ends that") from None
        self._areas[int(area)] = pool

    def store(self, area, offset, page):
        """Keep a page that is to be swapped out. True: it can be loaded until it is invalidated.
        False: there is no room, so the guest writes it to the device; and what was stored there
        before is gone, so no load finds what is older than the device's."""
        return self._pool(area).put(*_handle(offset), page)

    def load(self, area, offset):
        """The page that was stored, or None: then it is on the device. An exclusive front end takes
        it away. Where areas have a far tier (`far` and `far_persistent` among the options),
        FarUnavailable or FarLost: what is on the device is older."""
        return self._pool(area).get(*_handle(offset), free=self.exclusive)

    def invalidate_page(self, area, offset):
        """Drop a page, since its place on the device is free again. True if there was one."""
        return self._pool(area).flush_page(*_handle(offset))

    def invalidate_area(self, area):
        """Drop all pages of an area, which is no longer in use: see init_area."""
        pool = self._pool(area)
        del self._areas[area]
        drop_pool(self.eng, pool.name)

    def _pool(self, area):
        try:
            return self._areas[area]
        except (KeyError, TypeError):
            raise ValueError(f"area: one in use (init_area begins that), not {area!r}") from None

    def __repr__(self):
        return f"<frontswap of guest {self.guest!r}, {len(self._areas)} areas, arena {self.eng.name!r}>"


def _handle(offset):
    """Object and index of a page of an area."""
    offset = number_in("offset", offset, 0, OFFSET_MAX)
    return (offset % SPREAD, 0, 0), offset // SPREAD
