"""Owns how the benchmark's figures are printed: Markdown, ready to be pasted. Called by `stress.commands`."""
from __future__ import annotations

HEAD = """\
Every figure includes the loop, the Python call and, for gets, making the `bytes`; nothing is subtracted. Both sides walk
random pages in an order prepared beforehand. *ratio*: median over the rounds of the ratio within a round, against the
raw copy named beside it."""


def markdown(result: dict) -> str:
    machine = result["machine"]
    parts = [f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
             f"Python {machine['python']}, load {machine['load']}; {result['rounds']} rounds, seed {result['seed']}"
             + (" (smoke run: the figures mean little)" if result["smoke"] else ""), HEAD]
    parts += [_set(one) for one in result["sets"]]
    parts.append(_growth(result["sets"]))
    scaling = result["scaling"]
    if "ratio" in scaling:
        parts.append(f"**Scaling**: {scaling['workers']} workers on handles of their own do **{scaling['ratio']} times** the "
                     f"operations of one ({scaling['ops_per_second_alone']:,} alone, "
                     f"{scaling['ops_per_second_together']:,} together, a second, every byte verified in Python); "
                     f"{scaling['ratio_by_cpu_time']} by CPU time, which other programs on the machine do not disturb.")
    return "\n\n".join(part for part in parts if part)


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


def _growth(sets: list[dict]) -> str:
    """The largest set against the one of about 200,000 pages."""
    base = min(sets, key=lambda one: abs(one["pages"] - 200_000))
    large = max(sets, key=lambda one: one["pages"])
    if large is base or large["pages"] < base["pages"] * 4:
        return ""
    words = [f"{case} {_quotient(large, base, case, 'median_ns'):.2f} times "
             f"(lowest rounds: {_quotient(large, base, case, 'min_ns'):.2f})"
             for case in ("put over", "put new", "get hit", "get_into hit")]
    return f"**{large['pages']:,} pages against {base['pages']:,}**: " + ", ".join(words) + "."


def _quotient(large: dict, base: dict, case: str, figure: str) -> float:
    return large["cases"][case][figure] / base["cases"][case][figure]
