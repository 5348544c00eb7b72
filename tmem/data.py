"""Owns SharedSamples: the decoded samples of a dataset, kept once for all processes that train on
it. For PyTorch's DataLoader and for whoever else indexes a dataset; it imports neither PyTorch nor
NumPy.
"""
import operator

from tmem.opening import open_cache

_absent = object()


class SharedSamples:
    """A dataset in front of another, whose samples are kept in an arena: each is decoded once a
    machine, whichever worker of whichever program asks for it first.

    dataset: anything with __len__ and __getitem__. arena: the name of one. key: a str (or what else
    engine.Cache takes for a key) that says which dataset this is, and how it is decoded: who says
    the same finds the same samples. transform: a function of a sample that is called each time,
    after the sample was found; None: none. copy: True: arrays are the caller's own; False: they lie
    in the arena, and are read-only. name: of the cache in the arena. ttl: seconds that a sample
    lives. capacity: of an arena that has to be made. options: as of engine.Cache.

    It may be pickled and forked, as its dataset and its transform may."""

    def __init__(
        self, dataset, *, arena=None, key=None, transform=None, copy=False, name="samples", ttl=None, capacity=None,
        **options
    ):
        if not hasattr(dataset, "__getitem__"):
            raise TypeError(f"dataset: one with indexes (__getitem__), not {type(dataset).__name__}")
        if key is None:
            raise TypeError("key: what says which dataset this is and how it is decoded, as 'cifar10 train 32x32'")
        if transform is not None and not callable(transform):
            raise TypeError(f"transform: a function of a sample, or None, not {type(transform).__name__}")
        if not isinstance(copy, bool):
            raise TypeError(f"copy: True or False, not {type(copy).__name__}")
        self.dataset = dataset
        self.key = key
        self.transform = transform
        self.copy = copy
        self.cache = open_cache(arena, name, ttl=ttl, capacity=capacity, **options)

    def __len__(self):
        return len(self.dataset)

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index):
        sample = self._sample(self._place(index))
        return sample if self.transform is None else self.transform(sample)

    def __getitems__(self, indexes):
        """The samples of a batch, in a list, for who asks so (PyTorch does)."""
        return [self[index] for index in indexes]

    def _place(self, index):
        """An index as every process says it: the last sample is the same one as that at -1."""
        try:
            index = operator.index(index)
        except TypeError:
            return index            # a dataset by names
        if index >= 0:
            return index
        if index + len(self) < 0:
            raise IndexError(f"index: -{len(self)} to {len(self) - 1}, not {index}")
        return index + len(self)

    def _sample(self, index):
        key = (self.key, index)
        sample = self.cache.get(key, _absent, copy=self.copy)
        if sample is not _absent:
            return sample
        made = self.cache.get_or_compute(key, lambda: self.dataset[index])
        # Whoever has decoded it sees what all others see: a sample that may not be changed.
        return self.cache.get(key, made, copy=self.copy)
