"""Owns the exceptions of the engine: those of the arena, and those of pools."""
from typing import Any

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
    "FarError",
    "FarLost",
    "FarUnavailable",
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


class FarError(TmemError):
    """A far tier should have a page and does not give it; what is under the handle stays as it is.

    Of a batch: pages, as it answers them, with None for those that were not had, and failed, their
    handles. Both are None where a single page, or a range, was asked for."""

    def __init__(self, text: str, pages: list[Any] | None = None, failed: list[Any] | None = None) -> None:
        super().__init__(text)
        self.pages = pages
        self.failed = failed

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.pages, self.failed))


class FarUnavailable(FarError):
    """The far tier of a pool that keeps its pages there gave no answer: it may have the page."""


class FarLost(FarError):
    """The far tier of a pool that keeps its pages there says it has no such page, or has other
    bytes. It is lost until it is put anew or flushed, or the tier finds it again."""


class TooMuchPinned(TmemError):
    """Views have pinned as many bytes, or this worker as many pages, as may be."""


class PoolDestroyed(TmemError):
    """The pool was destroyed, here or elsewhere, since it was opened."""


class SnapshotDamaged(TmemError):
    """A file is no snapshot, or a part of it is damaged or missing."""


class SnapshotVersionMismatch(SnapshotDamaged):
    """A snapshot of a format that this version of the package does not read."""
