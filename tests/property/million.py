"""Owns the long run: a million random operations against the dictionary model, and a check of the
arena at the end.

`python -m tests.property.million [--ops N] [--seed N]`. Exit status 1 if an answer was wrong, with
the line that repeats the run.
"""
import argparse
import os
import random
import sys
import time

import engine
from tests.property.twin import Twins, random_steps


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.property.million", description=__doc__.splitlines()[0])
    parser.add_argument("--ops", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    name = f"tmem-million-{os.getpid()}"
    began = time.monotonic()
    try:
        with engine.create(name, capacity="256MiB", page_size=512, buckets=16, max_workers=4) as eng:
            twins = Twins(eng)
            random_steps(twins, random.Random(options.seed), options.ops)
            twins.compare_all()
            total = eng.stats()["total"]
    except AssertionError as error:
        print(error, file=sys.stderr)
        print(f"again: python -m tests.property.million --ops {options.ops} --seed {options.seed}", file=sys.stderr)
        return 1
    finally:
        engine.unlink(name)
    print(f"{options.ops} operations in {time.monotonic() - began:.1f} s agree with the model, the arena is sound; "
          f"{total['pages']} pages of {total['objects']} objects at the end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
