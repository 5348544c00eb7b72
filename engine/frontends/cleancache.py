"""Owns Cleancache: the pages that a guest's page cache gives up, kept while there is room.

A file system has an ephemeral pool, a file an object of it, and a page of the file is a page there.
Nothing depends on what is put: a get may find nothing at any time. What a get finds is the page
that was put last, as long as the guest invalidates what it changes on disk.
"""
import uuid as uuids

from engine.errors import AccessDenied, PoolDestroyed, PoolExists, PoolNotFound
from engine.frontends.guests import drop_pool, drop_pools, prefix_of
from engine.oid import oid


class Cleancache:
    """The front end of a guest's page cache.

    eng: an engine of the arena. guest: the guest's name, one for each that lives: pools of a former
    guest of that name, which died with its file systems mounted, are destroyed. options: of
    Engine.new_pool, for all pools: pam, policy, cap, dedup, client, allow.

    A guest may fork, and use its front end in the child; it may be pickled to a child, too. Calls
    raise what those of a pool raise: TypeError and ValueError, naming the argument."""

    def __init__(self, eng, guest, **options):
        self.eng = eng
        self.guest = guest
        self._options = options
        self._prefix = prefix_of("cleancache", guest)
        self._mounted = {}          # {number of a file system: its pool}
        self._next = 0              # what the next pool is called
        drop_pools(eng, self._prefix)

    def init_fs(self, page_size=None):
        """Mount a file system of this guest alone: its number, which all other calls want.

        A get takes the page away, since the guest then has it. page_size: as of Engine.new_pool."""
        while True:
            name = f"{self._prefix}{self._next}"
            self._next += 1
            try:
                return self._mount(self._new_pool(name, False, page_size))
            except PoolExists:      # by a fork of this guest
                continue

    def init_shared_fs(self, uuid, page_size=None):
        """Mount a file system that other guests mount, too: who says the same uuid finds the same
        pages. A get leaves the page there for the others.

        uuid: a uuid.UUID, its 16 bytes, or its text. ValueError if a guest has mounted it with
        another page_size."""
        return self._mount(self._shared_pool(f"cleancache::{_uuid_of(uuid).hex}", page_size))

    def get_page(self, fs, inode, index):
        """The page of a file, or None. inode: what engine.oid takes: an int, a str, bytes, or a
        triple of ints."""
        return self._call("get", fs, oid(inode), index)

    def put_page(self, fs, inode, index, page):
        """Keep a clean page that the page cache gives up. False: there is no room, and nothing is
        kept of that page, older content neither."""
        return self._call("put", fs, oid(inode), index, page)

    def invalidate_page(self, fs, inode, index):
        """Drop a page, since it changes on disk. True if there was one."""
        return self._call("flush_page", fs, oid(inode), index)

    def invalidate_inode(self, fs, inode):
        """Drop all pages of a file, since it is truncated or deleted. True if there were any."""
        return self._call("flush_object", fs, oid(inode))

    def invalidate_fs(self, fs):
        """Unmount: all pages of the file system are dropped, and its number is no longer valid.

        Those of a shared one are dropped for all guests, since whoever mounts it next must not find
        what was changed meanwhile; guests that have it mounted go on with an empty pool."""
        pool = self._pool(fs)
        del self._mounted[fs]
        try:
            drop_pool(self.eng, pool.name)
        except AccessDenied:        # another client's guest was the first to mount it
            for info in pool.objects():
                pool.flush_object(info.oid)

    def _mount(self, pool):
        fs = max(self._mounted, default=-1) + 1
        self._mounted[fs] = pool
        return fs

    def _new_pool(self, name, shared, page_size):
        return self.eng.new_pool(name, persistent=False, shared=shared, page_size=page_size, **self._options)

    def _shared_pool(self, name, page_size):
        while True:
            try:
                return self._new_pool(name, True, page_size)
            except PoolExists:
                pass
            try:
                pool = self.eng.pool(name)
            except (PoolNotFound, PoolDestroyed):
                continue            # its last user has unmounted it between the two calls
            if page_size not in (None, pool.page_size):
                raise ValueError(f"page_size: {pool.page_size}, as of the guests that share it, not {page_size!r}")
            return pool

    def _pool(self, fs):
        try:
            return self._mounted[fs]
        except (KeyError, TypeError):
            raise ValueError(f"fs: what init_fs or init_shared_fs has returned, not {fs!r}") from None

    def _call(self, verb, fs, *arguments):
        """Do something with a pool; a shared one that another guest has unmounted is made anew."""
        while True:
            pool = self._pool(fs)
            try:
                return getattr(pool, verb)(*arguments)
            except PoolDestroyed:
                if not pool.shared:
                    raise
                self._mounted[fs] = self._shared_pool(pool.name, pool.page_size)

    def __repr__(self):
        return f"<cleancache of guest {self.guest!r}, {len(self._mounted)} file systems, arena {self.eng.name!r}>"


def _uuid_of(uuid):
    """A uuid in any form that has 128 bits."""
    if isinstance(uuid, uuids.UUID):
        return uuid
    try:
        return uuids.UUID(uuid) if isinstance(uuid, str) else uuids.UUID(bytes=bytes(memoryview(uuid)))
    except (TypeError, ValueError):
        raise ValueError(f"uuid: a uuid.UUID, its 16 bytes, or its text, not {uuid!r}") from None
