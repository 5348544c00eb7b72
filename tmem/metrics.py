"""Owns the collector for prometheus_client: what arenas count, read when Prometheus asks.

The arena has the counters of all its processes, so one process that is scraped answers for all of
them, and prometheus_client needs no directory for several processes. The collector attaches for
each scrape and leaves again: it keeps nothing, takes a place among the workers for a moment alone,
survives a fork, and finds an arena that was removed and made again.
"""
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import engine

# name: (help, labels, {label value: (how to read it from the figures of a pool, or of the arena)})
_Reading = dict[str, Callable[[Any], float]]
_POOL_COUNTERS: dict[str, tuple[str, str, _Reading]] = {
    "tmem_pool_gets_total": ("Gets, by whether the page was there.", "result", {
        "hit": lambda c: c["gets_hit"], "miss": lambda c: c["gets_miss"]}),
    "tmem_pool_puts_total": ("Puts, by whether the page was stored.", "result", {
        "stored": lambda c: c["puts_ok"], "refused": lambda c: c["puts_refused"]}),
    "tmem_pool_overwrites_total": ("Puts that found a page under their handle.", "", {
        "": lambda c: c["puts_duplicate"]}),
    "tmem_pool_flushes_total": ("Pages and objects that were flushed.", "", {"": lambda c: c["flushes"]}),
    "tmem_pool_evictions_total": ("Pages that made room for others.", "", {"": lambda c: c["evicted"]}),
    "tmem_pool_expirations_total": ("Objects that were taken out since they had expired.", "", {
        "": lambda c: c["expired"]}),
}
_POOL_GAUGES: dict[str, tuple[str, str, _Reading]] = {
    "tmem_pool_objects": ("Objects that are there.", "", {"": lambda c: c["objects"]}),
    "tmem_pool_pages": ("Pages that are there.", "", {"": lambda c: c["pages"]}),
    "tmem_pool_content_bytes": ("What was put, as it was put.", "", {"": lambda c: c["bytes_asked"]}),
    "tmem_pool_stored_bytes": ("What was put, as it is kept: compressed, say.", "", {"": lambda c: c["bytes_stored"]}),
    "tmem_pool_used_bytes": ("Memory that pages take, with what rounding costs.", "", {"": lambda c: c["bytes_used"]}),
}
_ARENA_COUNTERS: dict[str, tuple[str, str, _Reading]] = {
    "tmem_lock_waits_total": ("How often workers waited for a lock.", "", {"": lambda s: s["total"]["lock_waits"]}),
    "tmem_lock_wait_seconds_total": ("How long workers waited for locks, together.", "", {
        "": lambda s: s["total"]["lock_wait_ns"] / 1e9}),
    "tmem_recoveries_total": ("Dead workers that were settled.", "", {"": lambda s: s["total"]["recoveries"]}),
}
_ARENA_GAUGES: dict[str, tuple[str, str, _Reading]] = {
    "tmem_capacity_bytes": ("What the arena may have for pages and all that describes them.", "", {
        "": lambda s: s["arena"]["capacity"]}),
    "tmem_capacity_max_bytes": ("What a resize may make of it.", "", {"": lambda s: s["arena"]["capacity_max"]}),
    "tmem_memory_bytes": ("Whose the capacity is; the sum is the capacity (docs/gauges.md).", "kind", {
        kind: lambda s, kind=kind: s["arena"][f"bytes_{kind}"]
        for kind in ("free", "stuck", "evictable", "persistent", "overhead", "leaving")}),
    "tmem_backed_bytes": ("Memory that the file of the arena takes.", "", {"": lambda s: s["arena"]["bytes_backed"]}),
    "tmem_pinned_bytes": ("Memory that views keep.", "", {"": lambda s: s["arena"]["pinned_bytes"]}),
    "tmem_pools": ("Pools that are there.", "", {"": lambda s: len(s["pools"])}),
    "tmem_workers": ("Processes that are attached, without the one that looks.", "", {
        "": lambda s: s["arena"]["workers"] - 1}),
    "tmem_lock_wait_max_seconds": ("The longest wait for a lock so far.", "", {
        "": lambda s: s["total"]["lock_wait_ns_max"] / 1e9}),
}


def _family(kind: type[Any], name: str, told: tuple[str, str, _Reading], labels: list[str]) -> Any:
    return kind(name, told[0], labels=[*labels, *([told[1]] if told[1] else [])])


def _add(family: Any, told: tuple[str, str, _Reading], labels: list[str], figures: Any) -> None:
    for value, read in told[2].items():
        family.add_metric([*labels, *([value] if told[1] else [])], read(figures))


class TmemCollector(Collector):
    """`REGISTRY.register(TmemCollector("shop"))`; several arenas go into one collector.

    owner: whose arenas they are, as for engine.attach. An arena that is not there, or cannot be
    read, has `tmem_up` 0 and nothing else."""

    def __init__(self, *arenas: str, owner: int | str | None = None):
        if not arenas:
            raise TypeError("arenas: the name of one arena at least")
        for name in arenas:
            if not isinstance(name, str) or not name:
                raise TypeError(f"arenas: names of arenas, str that are not empty, not {name!r}")
        self.arenas = tuple(dict.fromkeys(arenas))
        self.owner = owner

    def _stats(self, name: str) -> Any:
        try:
            with engine.attach(name, owner=self.owner) as eng:
                return eng.stats()
        except engine.TmemError:
            return None

    def describe(self) -> Iterator[Metric]:
        return self._families({})

    def collect(self) -> Iterator[Metric]:
        return self._families({name: self._stats(name) for name in self.arenas})

    def _families(self, found: dict[str, Any]) -> Iterator[Metric]:
        up = GaugeMetricFamily("tmem_up", "Whether the arena could be read.", labels=["arena"])
        for name, stats in found.items():
            up.add_metric([name], stats is not None)
        yield up
        there = {name: stats for name, stats in found.items() if stats is not None}
        for kind, table in ((CounterMetricFamily, _ARENA_COUNTERS), (GaugeMetricFamily, _ARENA_GAUGES)):
            for metric, told in table.items():
                family = _family(kind, metric, told, ["arena"])
                for name, stats in there.items():
                    _add(family, told, [name], stats)
                yield family
        for kind, table in ((CounterMetricFamily, _POOL_COUNTERS), (GaugeMetricFamily, _POOL_GAUGES)):
            for metric, told in table.items():
                family = _family(kind, metric, told, ["arena", "pool"])
                for name, stats in there.items():
                    for pool, counters in stats["pools"].items():
                        _add(family, told, [name, pool], counters)
                yield family
