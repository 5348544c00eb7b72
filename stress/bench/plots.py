"""Owns the pictures of a result: throughput, latency, workers, caches, number of pages; and those
of a stress run. Calls matplotlib."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from stress.bench.peers import CACHE, OURS, RAW

DPI = 90
# Without red, which is ours.
COLOURS = [
    "tab:blue",
    "tab:orange",
    "tab:green",
    "tab:purple",
    "tab:brown",
    "tab:pink",
    "tab:gray",
    "tab:olive",
    "tab:cyan",
    "navy",
    "gold",
]


def figures(result: dict) -> Iterator[tuple[str, Figure]]:
    """Every picture that the result has the figures for, with its name."""
    contest = result["contests"][-1] if result["contests"] else None
    pictures: list[tuple[str, Callable[[Any], Figure], Any]] = [
        ("throughput", _throughput, contest), ("latency", _latency, contest),
        ("workers", _workers, result["workers"]), ("caches", _caches, result.get("caches")),
        ("pages", _pages, result["sets"])]
    for name, make, data in pictures:
        if data:
            yield name, make(data)


def draw(result: dict, folder: Path) -> list[str]:
    """Writes every picture, and gives the names of the files."""
    found = []
    for name, figure in figures(result):
        figure.savefig(folder / f"{name}.png", dpi=DPI)
        found.append(f"{name}.png")
    return found


def of_stress(scenarios: list[dict]) -> Iterator[Figure]:
    """How fast each scenario was, and how long its calls took."""
    ran = [one for one in scenarios if one["ops_total"]]
    if not ran:
        return
    names = [one["scenario"] for one in reversed(ran)]
    figure = Figure(figsize=(11, 1 + 0.32 * len(ran)), layout="constrained")
    axis = figure.subplots()
    axis.barh(names, [one["ops_per_second"] for one in reversed(ran)],
              color=["tab:green" if one["ok"] else "tab:red" for one in reversed(ran)])
    least = min(one["ops_per_second"] for one in ran)
    axis.set(xscale="log", xlim=(max(1, least / 3), None), xlabel="operations a second, of all workers")
    axis.grid(axis="x", alpha=0.3)
    yield figure
    figure = Figure(figsize=(11, 1 + 0.32 * len(ran)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, kind in zip(axes, ("get", "put"), strict=True):
        axis.scatter([1] * len(ran), names, alpha=0)        # each has its place, also who has no such calls
        for part, marker in (("p50", "o"), ("p99", "s"), ("p99.9", "^"), ("max", "x")):
            known = [(one["latency_ns"][kind][part] / 1000, one["scenario"]) for one in reversed(ran)
                     if kind in one["latency_ns"]]
            axis.scatter([us for us, _ in known], [name for _, name in known], marker=marker, label=part, s=24)
        axis.set(xscale="log", xlabel="microseconds", title=kind, ylim=(-0.6, len(ran) - 0.4))
        axis.grid(alpha=0.3)
    axes[1].legend()
    yield figure


def _figure(wide: int = 1, width: float = 9) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(width, 4), layout="constrained")
    axes = figure.subplots(1, wide, squeeze=False)[0]
    return figure, list(axes)


def _colour(number: int, name: str) -> Any:
    return "black" if name == RAW else "tab:red" if name == OURS else COLOURS[number % len(COLOURS)]


def _throughput(contest: dict) -> Figure:
    figure, axes = _figure(2)
    for axis, case in zip(axes, ("put over", "get hit"), strict=True):
        found = {name: 1e9 / entry["median"] for name, entry in contest["cases"][case].items()}
        names = sorted(found, key=found.__getitem__)
        axis.barh(names, [found[name] for name in names], color=[_colour(n, name) for n, name in enumerate(names)])
        axis.set(xscale="log", xlabel="calls a second", title=f"{case}, {contest['pages']:,} pages, one process")
        axis.grid(axis="x", alpha=0.3)
    return figure


def _latency(contest: dict) -> Figure:
    figure, axes = _figure(2, 11)
    for axis, case in zip(axes, ("put over", "get hit"), strict=True):
        for number, (name, both) in enumerate(contest["latency_ns"].items()):
            axis.plot([ns / 1000 for ns in both[case].values()], [float(part) for part in both[case]], label=name,
                      color=_colour(number, name))
        axis.set(xscale="log", xlabel="microseconds", ylabel="percent of calls within", title=f"{case}, single calls")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    return figure


def _workers(workers: dict) -> Figure:
    figure, axes = _figure(len(workers["cases"]), 13)
    for axis, (case, stores) in zip(axes, workers["cases"].items(), strict=True):
        for number, (name, found) in enumerate(stores.items()):
            axis.plot(
                list(found),
                [entry["median"] for entry in found.values()],
                marker="o",
                label=name,
                color=_colour(number, name),
            )
        axis.set(yscale="log", xlabel="workers", ylabel="calls a second, together", title=case)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    return figure


def _caches(found: dict) -> Figure:
    figure, axes = _figure(2, 11)
    for axis, case in zip(axes, ("get 1 KiB", "set 1 KiB"), strict=True):
        times = {name: entry["median"] / 1000 for name, entry in found["cases"][case].items()}
        names = sorted(times, key=times.__getitem__, reverse=True)
        colours = ["tab:red" if name == CACHE else _colour(number, name) for number, name in enumerate(names)]
        axis.barh(names, [times[name] for name in names], color=colours)
        axis.set(xscale="log", xlabel="microseconds of CPU time, client and server", title=f"{case}, one process")
        axis.grid(axis="x", alpha=0.3)
    return figure


def _pages(sets: list[dict]) -> Figure:
    figure, (axis,) = _figure(1)
    first = {round(one["pages"], -3): one for one in reversed(sets)}       # of the shapes of one size the first
    ordered = sorted(first.values(), key=lambda one: one["pages"])
    for case in ("raw write", "put over", "raw read", "get hit"):
        axis.plot([one["pages"] for one in ordered], [one["cases"][case]["median_ns"] for one in ordered], marker="o",
                  linestyle=":" if case.startswith("raw") else "-", label=case)
    axis.set(
        xscale="log",
        ylim=(0, None),
        xlabel="pages",
        ylabel="ns a call",
        title="Random pages: this engine and the raw copy",
    )
    axis.grid(alpha=0.3)
    axis.legend()
    return figure
