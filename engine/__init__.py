"""Transcendent memory for the worker processes of one machine.

Owns the public names. See README.md for a first example.
"""
import sys as _sys

from engine.imports import check_needed as _check_needed
from engine.imports import why as _why

try:
    from engine.api.session import Engine, attach, unlink

    _check_needed()
except (ImportError, AttributeError) as _error:
    raise ImportError(_why(_error)) from _error
from engine.api.client import Client
from engine.api.handle import Object
from engine.api.lease import Lease
from engine.api.opening import create, open
from engine.api.pool import Pool
from engine.api.spawn import Crew
from engine.api.values import CONFLICT_ANSWER as CONFLICT
from engine.api.values import ObjectInfo
from engine.api.views import View
from engine.api.writing import Writing
from engine.cache.cache import Cache
from engine.capacity.rounds import Tended
from engine.errors import (
    AccessDenied,
    ArenaBusy,
    ArenaCorrupted,
    ArenaExists,
    ArenaFull,
    ArenaNotFound,
    ArenaVersionMismatch,
    Conflict,
    FarError,
    FarLost,
    FarUnavailable,
    LeaseTimeout,
    PoolDestroyed,
    PoolExists,
    PoolNotFound,
    SnapshotDamaged,
    SnapshotVersionMismatch,
    TmemError,
    TooMuchPinned,
)
from engine.far.garbage import Garbage
from engine.integrity.report import Problem, Report
from engine.member.registry import register_hostops, register_pam
from engine.oid import oid
from engine.snapshots import saving as _saving  # noqa: F401
from engine.snapshots.report import Restored, Saved
from engine.snapshots.restoring import restore
from shm.arena import MAGIC as ARENA_MAGIC

# A pickle of an engine or a pool names the function that opens it by its module. One that was made
# before the modules lay in folders goes on to be read, and so do programs that reach into these.
for _name in ("client", "handle", "pool", "session", "spawn", "views"):
    _sys.modules[f"engine.{_name}"] = globals()[_name] = _sys.modules[f"engine.api.{_name}"]

__all__ = [
    "ARENA_MAGIC",
    "CONFLICT",
    "AccessDenied",
    "ArenaBusy",
    "ArenaCorrupted",
    "ArenaExists",
    "ArenaFull",
    "ArenaNotFound",
    "ArenaVersionMismatch",
    "Cache",
    "Client",
    "Conflict",
    "Crew",
    "Engine",
    "FarError",
    "FarLost",
    "FarUnavailable",
    "Lease",
    "LeaseTimeout",
    "Object",
    "ObjectInfo",
    "Pool",
    "PoolDestroyed",
    "PoolExists",
    "PoolNotFound",
    "Problem",
    "Report",
    "Restored",
    "Saved",
    "SnapshotDamaged",
    "SnapshotVersionMismatch",
    "Garbage",
    "Tended",
    "TmemError",
    "TooMuchPinned",
    "View",
    "Writing",
    "attach",
    "create",
    "oid",
    "open",
    "register_hostops",
    "register_pam",
    "restore",
    "unlink",
]
