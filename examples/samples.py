"""Owns four workers that go through one dataset for two epochs, each sample of which is decoded
once for all of them. With PyTorch the same object stands in a DataLoader.

    pip install tmem numpy
    python examples/samples.py
"""
import multiprocessing
import os
import random

import numpy

import engine
from tmem.data import SharedSamples

SAMPLES, WORKERS, EPOCHS = 200, 4, 2


class Pictures:
    """A dataset whose samples are slow to decode; it counts how many it has decoded here."""

    def __init__(self):
        self.decoded = 0

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        self.decoded += 1
        return numpy.random.default_rng(index).random((64, 64), dtype=numpy.float32), index % 10


def train(arena, worker):
    """An epoch after the other, in this worker's own order: what it decoded, and a sum."""
    pictures = Pictures()
    shared = SharedSamples(pictures, arena=arena, key="pictures 64x64")
    total = 0.0
    for epoch in range(EPOCHS):
        order = random.Random(worker * EPOCHS + epoch).sample(range(SAMPLES), SAMPLES)
        for begin in range(0, SAMPLES, 20):
            for picture, _ in shared.__getitems__(order[begin : begin + 20]):
                total += float(picture[0, 0])       # it lies in the arena: nothing was copied
    return pictures.decoded, round(total, 3)


def main():
    arena = f"samples-{os.getpid()}"
    try:
        with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
            answers = pool.starmap(train, [(arena, worker) for worker in range(WORKERS)], chunksize=1)
    finally:
        engine.unlink(arena)
    decoded = sum(count for count, _ in answers)
    same = len({total for _, total in answers}) == 1
    print(f"{WORKERS} workers saw {WORKERS * EPOCHS * SAMPLES} samples, and decoded {decoded}; sums agree: {same}")


if __name__ == "__main__":
    main()
