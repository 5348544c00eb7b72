"""Owns Batch: what a tier is given to keep."""
import cython


@cython.cclass
class Batch:
    """Pages of one pool, each with its name, its sealed bytes, and how long it has to live."""

    def __cinit__(self):
        self.names = []
        self.values = []
        self.ttls = []
        self.places = []
