"""Owns how the benchmark's figures are printed: Markdown, ready to be pasted."""
from __future__ import annotations

HEAD = """\
Every figure includes the loop, the Python call and, for gets, making the `bytes`; nothing is
subtracted. Both sides walk random pages in an order prepared beforehand. *ratio*: median over the
rounds of the ratio within a round, against the raw copy named beside it."""


def markdown(result: dict) -> str:
    """Everything, ready to be pasted."""
    machine = result["machine"]
    parts = [f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
             f"Python {machine['python']}, load {machine['load']}; seed {result['seed']}"
             + (" (smoke run: the figures mean little)" if result["smoke"] else ""),
             result.get("remark", ""), "## What was wanted, and what was measured", limits_of(result["limits"])]
    for one in result["contests"]:
        parts += [f"## Every store, {one['pages']:,} pages, one process", _contest(one)]
    parts += ["## Several processes", _workers(result["workers"]),
              caches(result["caches"]) if "caches" in result else "", "## Memory",
              _memory(result["memory"]), "## Many small objects", _objects(result["objects"]),
              "## This engine against the raw copy",
              f"{result['rounds']} rounds. " + HEAD]
    parts += [_set(one) for one in result["sets"]]
    parts.append(growth(result["growth"]) if "growth" in result else "")
    return "\n\n".join(part for part in parts if part)


def table(head: list[str], rows: list[list[str]]) -> str:
    """The first column to the left, all others to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def limits_of(limits: list[dict]) -> str:
    verdict = {True: "met", False: "**missed**", None: "not measured"}
    return table(
        ["", "wanted", "measured", ""],
        [
            [
                one["what"],
                one["wanted"],
                "" if one["measured"] is None else f"{one['measured']:.2f}",
                verdict[one["met"]],
            ]
            for one in limits
        ],
    )


def _contest(one: dict) -> str:
    names = list(one["peers"])
    rows = []
    for case, found in one["cases"].items():
        rows.append([case, *[_cell(found[name]) if name in found else "" for name in names]])
    latency = [[f"{name}: {case}", *[f"{entry[part]:,}" for part in ("50", "90", "99", "99.9")]]
               for name, both in one["latency_ns"].items() for case, entry in both.items()]
    return "\n\n".join(
        [
            f"Microseconds a call: the median of {one['rounds']} interleaved rounds; in brackets "
            "how many times ours, the median of the "
            "ratios within the rounds. Client and server on one core.",
            table(["", *names], rows),
            "Single calls, with two looks at the clock (about 50 ns) in each:",
            table(["", "p50 ns", "p90", "p99", "p99.9"], latency),
            "\n".join(
                f"- {name}: {entry['version'] or 'of this build'}; {entry['about']}"
                for name, entry in one["peers"].items()
            ),
            _absent(one["absent"]),
        ]
    )


def _cell(entry: dict) -> str:
    ratio = entry.get("times_ours")
    bracket = "" if ratio is None else f" ({ratio:,.0f})" if ratio >= 100 else f" ({ratio:.3g})"
    return f"{entry['median'] / 1000:,.2f}{bracket}"


def caches(found: dict) -> str:
    """Caches beside engine.Cache."""
    names = list(found["peers"])
    alone = found["cases"]["get record"].get("pickle.loads alone")
    rows = [[case, *[_cell(one[name]) if name in one else "" for name in names]]
            for case, one in found["cases"].items()]
    against = ", ".join(f"{case} {one:.2f}" for case, one in found["against_put"].items())
    memory = found["memory"]
    return "\n\n".join(part for part in [
        "## Caches",
        f"Microseconds of CPU time a call, of client and server together, on one core: the median of {found['rounds']} "
        "interleaved rounds; in brackets how many times engine.Cache's, the median of the ratios within the rounds. "
        "Keys of 30 characters. A record is a pickled dict of ten fields"
        + (f" (`pickle.loads` alone: {_cell(alone)})." if alone else "."),
        table(["", *names], rows),
        f"engine.Cache against a put of a page of 100 B: {against}." if against else "",
        "\n".join(f"- {name}: {entry['version'] or 'of this build'}; {entry['about']}"
                  for name, entry in found["peers"].items()),
        _absent(found["absent"]),
        _workers(found["workers"], "values"),
        f"{memory['values']:,} values of 100 B:",
        table(["", "bytes a value"], [[name, f"{one:,.0f}"] for name, one in memory["bytes_a_value"].items()]),
    ] if part)


def _absent(absent: dict[str, str]) -> str:
    return "\n".join(f"- {name}: not measured here: {why}" for name, why in absent.items())


def _workers(workers: dict, what: str = "pages") -> str:
    counts = workers["counts"]
    parts = [
        f"Thousands of calls a second of all workers together: {workers['pages']:,} {what}, medians "
        f"of {workers['rounds']} rounds of "
        f"windows of {workers['window_s'] * 1000:.0f} ms. In brackets: against one worker within "
        "the rounds; by CPU time, "
        "which other programs on the machine disturb less (and which does not count waiting). "
        "*cores*: what two workers got of the "
        "machine; less than two is what other programs took, or waiting."
    ]
    for case, stores in workers["cases"].items():
        rows = []
        raw = any("to_raw" in one for found in stores.values() for one in found.values())
        for name, found in stores.items():
            cells = [_rate(found[str(count)]) for count in counts]
            got = [f"{found[str(count)]['cores']:.2f}" for count in counts if count == 2]
            to_raw = [f"{one['to_raw']:.2f}" for one in found.values() if "to_raw" in one]
            rows.append([name, *cells, *got, *to_raw])
        parts.append(
            f"**{case}**\n\n"
            + table(
                [
                    "",
                    *[f"{count} workers" if count > 1 else "1 worker" for count in counts],
                    *["cores" for count in counts if count == 2],
                    *[f"/ raw, {count}" for count in counts if raw],
                ],
                rows,
            )
        )
    parts.append(_absent(workers["absent"]))
    return "\n\n".join(part for part in parts if part)


def _rate(entry: dict) -> str:
    if "to_one_worker" not in entry:
        return f"{entry['median'] / 1000:,.0f}"
    return f"{entry['median'] / 1000:,.0f} ({entry['to_one_worker']:.2f}; {entry['to_one_worker_by_cpu_time']:.2f})"


def _memory(memory: dict) -> str:
    return (
        f"{memory['pages']:,} pages of random content, against their bytes.\n\n"
        + table(
            ["", "MiB", "times the pages"],
            [
                [name, f"{entry['bytes'] / 2**20:,.1f}", f"{entry['times_content']:.2f}"]
                for name, entry in memory["stores"].items()
            ],
        )
        + "\n"
        + _absent(memory["absent"])
    )


def _objects(objects: dict) -> str:
    return table(
        [
            f"{objects['small_objects']:,} pages",
            f"in {objects['small_objects']:,} objects, ns",
            f"in {objects['large_objects']:,} objects, ns",
            "ratio",
        ],
        [
            [case, f"{found['small']['median']:,.0f}", f"{found['large']['median']:,.0f}", f"{found['ratio']:.2f}"]
            for case, found in objects["cases"].items()
        ],
    )


def _set(one: dict) -> str:
    memory = one["memory"]
    lines = [f"### {one['pages']:,} pages of {one['page_size']} bytes, {one['object_pages']:,} to an object, "
             f"{one['buckets']:,} buckets", "",
             f"Create {one['create_ms']} ms, attach {one['attach_ms']} ms, fill {one['fill_ns']:,.0f} ns a page. "
             f"{memory['bytes_backed'] / 2 ** 20:,.1f} MiB of memory for {memory['page_bytes'] / 2 ** 20:,.1f} MiB of "
             f"pages: {memory['metadata_percent']} % on top. The raw mapping has {one['raw_pages']:,} pages.", "",
             "| operation | ns (median) | lowest round | highest round | ratio | against | |",
             "|---|--:|--:|--:|--:|---|---|"]
    for case, entry in one["cases"].items():
        ratio = f"{entry['ratio']:.2f}" if "ratio" in entry else ""
        lines.append(f"| {case} | {entry['median_ns']:,.0f} | {entry['min_ns']:,.0f} | {entry['max_ns']:,.0f} | "
                     f"{ratio} | {entry.get('against', '')} | {entry['note']} |")
    lines += ["", "Single calls, with two looks at the clock (about 50 ns) in each:", "",
              "| operation | p50 ns | p90 | p99 | p99.9 |", "|---|--:|--:|--:|--:|"]
    for case, entry in one["latency_ns"].items():
        lines.append(f"| {case} | " + " | ".join(f"{ns:,}" for ns in entry.values()) + " |")
    return "\n".join(lines)


def growth(found: dict) -> str:
    """What many more pages cost."""
    return (
        f"## {found['large']:,} pages against {found['small']:,}\n\n{found['object_pages']:,} to an "
        "object; in turns within "
        f"{found['rounds']} rounds.\n\n"
    ) + table(
        ["", f"{found['small']:,} pages, ns", f"{found['large']:,} pages, ns", "ratio"],
        [
            [case, f"{one['small']['median']:,.0f}", f"{one['large']['median']:,.0f}", f"{one['ratio']:.2f}"]
            for case, one in found["cases"].items()
        ],
    )
