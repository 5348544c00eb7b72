"""Owns what is seen of an arena from outside: one look after the other, also when the arena is
removed and made again meanwhile, and what happened between two looks.

A look reads what `Engine.stats` counts, and what pools and clients are; it changes nothing, and
holds nobody up.
"""
import contextlib
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

import engine
from engine.cli.basics import attach
from shm.kernel.liveness import SHM_DIR

HISTORY = 120               # intervals that are kept for curves


class Watcher:
    """Looks at the arena of a name, whichever that is at the moment."""

    def __init__(self, name: str):
        self.name = name
        self._eng = attach(name)
        self._file = self._id()

    def _id(self) -> tuple[int, int] | None:
        try:
            found = os.stat(f"{SHM_DIR}/{self.name}")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def look(self) -> dict[str, Any]:
        """Counters as `stats` has them, with "time", and with what pools and clients are. Raises
        ArenaNotFound while there is no arena of that name."""
        if self._id() != self._file or self._eng.closed:
            self._eng.close()
            self._file = self._id()
            self._eng = attach(self.name)
        stats: dict[str, Any] = {**self._eng.stats(), "time": time.monotonic()}
        facts, ids = {}, set()
        for pool in self._eng.pools():
            with contextlib.suppress(engine.PoolDestroyed):
                facts[pool.name] = {
                    "kind": "persistent" if pool.persistent else "ephemeral",
                    "shared": pool.shared, "client": pool.client, "pam": pool.pam, "policy": pool.policy,
                    "cap": pool.cap, "cap_bytes": pool.cap_bytes, "dedup": pool.dedup, "page_size": pool.page_size,
                }
                ids.add(pool.client)
        stats["facts"] = facts
        stats["clients"] = [one for one in map(self._client, sorted(ids)) if one is not None]
        return stats

    def _client(self, number: int) -> dict[str, Any] | None:
        try:
            found = self._eng.client(number)
            return {"client": number, "weight": found.weight, "cap": found.cap, "cap_bytes": found.cap_bytes,
                    "frozen": found.frozen}
        except engine.TmemError:        # no place in the table of clients: it has a weight of 1
            return None

    def close(self) -> None:
        self._eng.close()


def doing(pid: int) -> str:
    """What the system says of a process: running, sleeping, stopped ...; "-" if it cannot be asked,
    as of one in another container."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "-"
    return {"R": "running", "S": "sleeping", "D": "disk", "T": "stopped", "t": "traced", "Z": "dead", "X": "dead"}.get(
        state, state)


def _pool_rates(now: Any, then: Any, seconds: float) -> dict[str, Any]:
    done = {key: max(0, now[key] - then.get(key, 0)) for key in now}
    gets = done["gets_hit"] + done["gets_miss"]
    going = done["evicted"] / seconds
    return {
        "puts_per_s": (done["puts_ok"] + done["puts_refused"]) / seconds,
        "refused_per_s": done["puts_refused"] / seconds,
        "gets_per_s": gets / seconds,
        "hit_rate": done["gets_hit"] / gets if gets else None,
        "flushes_per_s": done["flushes"] / seconds,
        "evicted_per_s": going,
        # As many pages, of which so many go a second: how long one stays, as long as it goes on so.
        "lasts_s": now["pages"] / going if going else None,
        "expired_per_s": done.get("expired", 0) / seconds,
        "objects": now.get("objects", 0),
        "pages": now["pages"],
        "bytes_used": now["bytes_used"],
    }


def _worker_rates(now: Any, then: Any, seconds: float) -> dict[str, Any]:
    waited = now["lock_wait_ns"] - then.get("lock_wait_ns", now["lock_wait_ns"])
    waits = now["lock_waits"] - then.get("lock_waits", now["lock_waits"])
    return {
        "worker": now["worker"], "pid": now["pid"], "state": doing(now["pid"]), "in_call": now["in_call"],
        "holds": now["holds"], "waits_for": now["waits_for"], "waits_per_s": max(0, waits) / seconds,
        "waiting": min(1.0, max(0, waited) / seconds / 1e9), "wait_max_s": now["lock_wait_ns_max"] / 1e9,
        "pinned_bytes": now["pinned_bytes"],
    }


def _client_rates(look: Any) -> list[dict[str, Any]]:
    """Clients with what their ephemeral pools have, and their share of what all such have by
    weight."""
    found = []
    whole = sum(one["weight"] for one in look["clients"])
    for one in look["clients"]:
        mine = [name for name, fact in look["facts"].items() if fact["client"] == one["client"]]
        used = {kind: sum(look["pools"][name]["bytes_used"] for name in mine
                          if name in look["pools"] and look["facts"][name]["kind"] == kind)
                for kind in ("ephemeral", "persistent")}
        found.append({**one, "pools": len(mine), "share": one["weight"] / whole,
                      "bytes_ephemeral": used["ephemeral"], "bytes_persistent": used["persistent"]})
    return found


def rates(before: Any, after: Any) -> dict[str, Any]:
    """What happened between two looks, per second; a pool that is new started from nothing, and so
    did all of an arena that was made again (what was counted falls back to less)."""
    seconds = max(after["time"] - before["time"], 1e-6)
    workers = {(one["worker"], one["pid"]): one for one in before["workers"]}
    return {
        "seconds": seconds,
        "arena": after["arena"],
        "counters": after["pools"],
        "pools": {pool: _pool_rates(now, before["pools"].get(pool, {}), seconds)
                  for pool, now in after["pools"].items()},
        "total": {**_pool_rates(after["total"], before["total"], seconds),
                  "recoveries": after["total"]["recoveries"]},
        "facts": after["facts"],
        "workers": [_worker_rates(now, workers.get((now["worker"], now["pid"]), {}), seconds)
                    for now in after["workers"]],
        "clients": _client_rates(after),
    }


class History:
    """The last rates of each pool, and of all together under None, as the curves want them."""

    KEYS = ("gets_per_s", "hit_rate", "puts_per_s", "evicted_per_s")

    def __init__(self) -> None:
        self._pools: dict[str | None, dict[str, deque[float | None]]] = {}

    def add(self, found: dict[str, Any]) -> None:
        for gone in set(self._pools) - set(found["pools"]) - {None}:
            del self._pools[gone]
        for pool, one in [*found["pools"].items(), (None, found["total"])]:
            kept = self._pools.setdefault(pool, {key: deque(maxlen=HISTORY) for key in self.KEYS})
            for key in self.KEYS:
                kept[key].append(one[key])

    def of(self, pool: str | None, key: str) -> list[float | None]:
        return list(self._pools.get(pool, {}).get(key, ()))
