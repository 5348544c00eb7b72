"""Owns the exceptions of the engine: those of the arena, and those of pools."""
from shm.errors import (
    AccessDenied,
    ArenaBusy,
    ArenaCorrupted,
    ArenaExists,
    ArenaNotFound,
    ArenaVersionMismatch,
    TmemError,
)

__all__ = [
    "AccessDenied",
    "ArenaBusy",
    "ArenaCorrupted",
    "ArenaExists",
    "ArenaFull",
    "ArenaNotFound",
    "ArenaVersionMismatch",
    "Conflict",
    "LeaseTimeout",
    "PoolDestroyed",
    "PoolExists",
    "PoolNotFound",
    "SnapshotDamaged",
    "SnapshotVersionMismatch",
    "TmemError",
    "TooMuchPinned",
]


class PoolNotFound(TmemError):
    """No pool of this name or id."""


class PoolExists(TmemError):
    """A pool of this name is there already."""


class LeaseTimeout(TmemError, TimeoutError):
    """Somebody else had the lease until the caller's time ran out."""


class ArenaFull(TmemError):
    """There is no room for a page that was to be written in place, for a count, or for a table of
    leases."""


class Conflict(TmemError):
    """The condition under which a value was to be put does not hold."""


class TooMuchPinned(TmemError):
    """Views have pinned as many bytes, or this worker as many pages, as may be."""


class PoolDestroyed(TmemError):
    """The pool was destroyed, here or elsewhere, since it was opened."""


class SnapshotDamaged(TmemError):
    """A file is no snapshot, or a part of it is damaged or missing."""


class SnapshotVersionMismatch(SnapshotDamaged):
    """A snapshot of a format that this version of the package does not read."""
