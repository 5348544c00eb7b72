"""Owns the command: `python -m tests.interleavings --count N --seed S [--workers K]`.

Plays N interleavings chosen by seed, or with --every those of all pairs of verbs at all kill
points, and prints each fault with the line that plays it again. Exit status 1 if there was one.
"""
import argparse
import json
import os
import subprocess
import sys
import time

from tests.interleavings import plans, stage
from tests.interleavings.stage import KINDS


def _parts(options, arguments):
    """The same command in so many processes, a share of the lives each: their totals."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.interleavings", *arguments, "--share", f"{n}/{options.workers}", "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(options.workers)
    ]
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]


def _every(options, share, shares, prefix, show):
    total, points, began = plans.Total(), plans.Points(prefix), time.monotonic()
    for kind in options.kind or KINDS:
        texts = list(plans.every_pair(kind, points, options.step))[share::shares]
        for at in range(0, len(texts), plans.LIFE):
            plans.play_all(texts[at:at + plans.LIFE], prefix, total, f"--every --step {options.step}", show=show)
    total.seconds = time.monotonic() - began
    return total


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m tests.interleavings", description=__doc__.splitlines()[2])
    parser.add_argument("--count", type=int, default=2000, help="interleavings (rounded up to whole lives of an arena)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--life", type=int, help="play only this life of the seed")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the work")
    parser.add_argument("--replay", metavar="SCHEDULE", help="play one, alone")
    parser.add_argument("--every", action="store_true", help="every pair of verbs, at every kill point")
    parser.add_argument("--step", type=int, default=1, help="with --every: every so many kill points")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="with --every: only this kind of arena")
    parser.add_argument("--limit", type=float, default=stage.LIMIT_S, help="seconds without an answer that are a hang")
    parser.add_argument("--share", default="0/1", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    stage.LIMIT_S = options.limit
    prefix = f"tmem-interleavings-{os.getpid()}-"

    def show(what, line):
        print(f"FAULT {what}\n    python -m tests.interleavings {line}", file=sys.stderr, flush=True)

    if options.replay:
        faults = plans.replay(options.replay, prefix).faults
        print("\n".join(faults) or "no fault")
        return int(bool(faults))
    share, shares = map(int, options.share.split("/"))
    if options.workers > 1 and shares == 1:
        began, total = time.monotonic(), plans.Total()
        for part in _parts(options, arguments):
            part.pop("most")
            for name, value in part.items():
                setattr(
                    total,
                    name,
                    max(getattr(total, name), value) if name == "worst_ms" else getattr(total, name) + value,
                )
        total.seconds = time.monotonic() - began
    elif options.every:
        total = _every(options, share, shares, prefix, show)
    else:
        lives = range(-(-options.count // plans.LIFE))[share::shares] if options.life is None else [options.life]
        total = plans.play_lives(options.seed, lives, prefix, plans.Total(), show)
    print(json.dumps(vars(total)) if options.json else total.told())
    return int(bool(total.faults))


if __name__ == "__main__":
    sys.exit(main())
