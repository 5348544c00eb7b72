"""Owns what was wanted of this engine, beside what a run measured: met, missed, or not measured.

Each limit finds its figure in the result of a run; a part that was not run, or a store that is not
installed, gives none.
"""
from __future__ import annotations

from collections.abc import Callable

from stress.bench.peers import CACHE, OBJECTS, OURS, PAGES

IN_CACHE, SPREAD = 256, 200_000         # pages
LARGE = 4_000_000

Find = Callable[[dict], float]


def _ratio(pages: int, case: str, object_pages: int = 0) -> Find:
    """Against the raw copy."""
    return lambda result: _one(result["sets"], pages, object_pages)["cases"][case]["ratio"]


def _one(sets: list[dict], pages: int, object_pages: int = 0) -> dict:
    """The first working set of about so many pages, with objects of that many, if it matters;
    KeyError if there is none."""
    for one in sets:
        if round(one["pages"] / pages, 1) == 1.0 and object_pages in (0, one.get("object_pages")):
            return one
    raise KeyError(pages)


def _peer(name: str, case: str) -> Find:
    return lambda result: _one(result["contests"], SPREAD)["cases"][case][name]["times_ours"]


def _workers(name: str, case: str, count: int, figure: str) -> Find:
    return lambda result: result["workers"]["cases"][case][name][str(count)][figure]


def _growth(case: str) -> Find:
    return lambda result: result["growth"]["cases"][case]["ratio"]


def _cache(case: str, name: str, figure: str = "times_ours") -> Find:
    return lambda result: result["caches"]["cases"][case][name][figure]


def _cache_to(case: str, name: str) -> Find:
    """engine.Cache against that."""
    return _cache(case, name, "ours_is_times")


def _cache_verb(verb: str) -> Find:
    return lambda result: result["caches"]["against_put"][verb]


def _cache_workers(verb: str) -> Find:
    found = _workers(CACHE, f"{verb} spread", 2, "to_one_worker_by_cpu_time")
    return lambda result: found(result["caches"])


CACHE_LIMITS: list[tuple[str, str, float, Find]] = [
    ("Cache.get of 100 B, against a get of a page", "<=", 2.0, _cache_to("get 100 B", PAGES)),
    ("Cache.set of 100 B, against a put of a page", "<=", 2.0, _cache_to("set 100 B", PAGES)),
    *[(f"Cache.{verb}, against a put of a page", "<=", 3.0, _cache_verb(verb)) for verb in ("add", "incr", "cas")],
    *[(f"{name}: {verb} of 1 KiB takes so many times Cache's", ">=", wanted, _cache(f"{verb} 1 KiB", name))
      for verb, all_wanted in (("get", (15, 15, 60)), ("set", (30, 5, 25)))
      for name, wanted in zip(("diskcache", "memcached, pylibmc", "Redis"), all_wanted, strict=True)],
    ("Cache.get of 1 MiB, against get_object", "<=", 1.1, _cache_to("get 1 MiB", OBJECTS)),
    ("Cache.set of 1 MiB, against put_object", "<=", 1.1, _cache_to("set 1 MiB", OBJECTS)),
    ("Cache.get of a record, against pickle.loads alone", "<=", 1.5, _cache_to("get record", "pickle.loads alone")),
    *[(f"two processes against one, Cache.{verb} of spread keys, by CPU time", ">=", 1.9, _cache_workers(verb))
      for verb in ("get", "set", "incr")],
    ("bytes of memory of a value of 100 B in a Cache", "<=", 330, lambda result:
        result["caches"]["memory"]["bytes_a_value"][CACHE]),
]

# what, at most or at least, so much, where the figure is
LIMITS: list[tuple[str, str, float, Find]] = [
    ("put over, 200,000 pages, against a raw copy", "<=", 1.2, _ratio(SPREAD, "put over")),
    ("get, 200,000 pages, against a raw copy", "<=", 1.0, _ratio(SPREAD, "get hit")),
    ("the same, 64 pages an object: put over", "<=", 1.2, _ratio(SPREAD, "put over", 64)),
    ("the same, 64 pages an object: get", "<=", 1.0, _ratio(SPREAD, "get hit", 64)),
    ("put over, in cache, against a raw copy", "<=", 1.6, _ratio(IN_CACHE, "put over")),
    ("get, in cache, against a raw copy", "<=", 1.2, _ratio(IN_CACHE, "get hit")),
    ("LMDB's put takes so many times ours", ">=", 2.5, _peer("LMDB", "put over")),
    ("LMDB's get takes so many times ours", ">=", 1.5, _peer("LMDB", "get hit")),
    ("puts of two processes are so many times LMDB's", ">=", 5.0, _workers("LMDB", "put spread", 2, "ours_is_times")),
    ("Redis' put takes so many times ours", ">=", 25.0, _peer("Redis", "put over")),
    ("Redis' get takes so many times ours", ">=", 25.0, _peer("Redis", "get hit")),
    ("memcached's put takes so many times ours", ">=", 7.0, _peer("memcached", "put over")),
    ("memcached's get takes so many times ours", ">=", 7.0, _peer("memcached", "get hit")),
    ("puts over of one process, against unlocked raw copies", ">=", 0.85, _workers(OURS, "put spread", 1, "to_raw")),
    ("puts over of two processes, against unlocked raw copies", ">=", 0.85, _workers(OURS, "put spread", 2, "to_raw")),
    (
        "memory for random pages, against their bytes",
        "<=",
        1.04,
        lambda result: result["memory"]["stores"][OURS]["times_content"],
    ),
    ("two workers against one, puts of spread handles", ">=", 1.9, _workers(OURS, "put spread", 2, "to_one_worker")),
    ("two workers against one, gets of spread handles", ">=", 1.9, _workers(OURS, "get spread", 2, "to_one_worker")),
    ("two workers against one, gets of one hot object", ">=", 1.8, _workers(OURS, "get hot", 2, "to_one_worker")),
    (
        "the same by CPU time: puts of spread handles",
        ">=",
        1.9,
        _workers(OURS, "put spread", 2, "to_one_worker_by_cpu_time"),
    ),
    (
        "the same by CPU time: gets of spread handles",
        ">=",
        1.9,
        _workers(OURS, "get spread", 2, "to_one_worker_by_cpu_time"),
    ),
    (
        "the same by CPU time: gets of one hot object",
        ">=",
        1.8,
        _workers(OURS, "get hot", 2, "to_one_worker_by_cpu_time"),
    ),
    (
        "put over of many small objects, against few large",
        "<=",
        1.5,
        lambda result: result["objects"]["cases"]["put over"]["ratio"],
    ),
    (
        "get of many small objects, against few large",
        "<=",
        1.5,
        lambda result: result["objects"]["cases"]["get hit"]["ratio"],
    ),
    ("put over, 4,000,000 pages against 200,000", "<=", 1.3, _growth("put over")),
    ("get, 4,000,000 pages against 200,000", "<=", 1.3, _growth("get hit")),
    ("save, of the speed of a sparse copy of the arena", ">=", 0.7, lambda result: result["snapshots"]["save"]),
    ("restore, of the speed of a copy back", ">=", 0.5, lambda result: result["snapshots"]["restore"]),
    ("save to a disk, of its sequential write", ">=", 0.95, lambda result: result["snapshots"]["to_disk"]),
    *CACHE_LIMITS,
]


def judge(result: dict, limits: list[tuple[str, str, float, Find]] = LIMITS) -> list[dict]:
    found = []
    for what, way, wanted, find in limits:
        try:
            value = find(result)
        except KeyError:
            value = None
        met = None if value is None else value <= wanted if way == "<=" else value >= wanted
        found.append({"what": what, "wanted": f"{way} {wanted:g}", "measured": value, "met": met})
    return found
