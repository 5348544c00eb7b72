"""Owns the project's own traces: makes those in data/ from a plain reference model and a seed.

`python -m tests.conformance.generate` writes them anew, byte for byte the same ones. The format is
that of the traces of the original. The model is a dictionary (support.ModelPool) plus the rules of
a put: the old page goes first, then an object is allocated, the page offered to the store, the tree
nodes allocated; a step that fails undoes the put and leaves the handle empty. Unlike the original
it leaves no tree nodes behind.
"""
import collections
import gzip
import json
import random
from pathlib import Path

from tests.support import U64_MAX, ModelPool, tree_shape

DATA = Path(__file__).parent / "data"
REFUSED = -12


class Reference:
    """The model: pools by label, a page limit, and failures armed for the next put."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.pools = {}

    @property
    def live(self):
        return sum(pool.page_count for pool in self.pools.values())

    def nodes_wanted(self, pool, oid, index):
        """Tree nodes that a put of this handle would allocate, once its old page is gone."""
        before = set(pool.objects.get(oid, ())) - {index}
        return tree_shape(before | {index})[0] - (tree_shape(before)[0] if before else 0)

    def put(self, label, oid, index, content, fail):
        """0 or -12. fail: None, "obj", "create", or the number of the objnode allocation that
        fails."""
        pool = self.pools[label]
        is_new = oid not in pool.objects
        pool.flush_page(oid, index)
        if is_new and fail == "obj":
            return REFUSED
        if fail == "create" or (self.capacity is not None and self.live >= self.capacity):
            return REFUSED
        if isinstance(fail, int) and fail <= self.nodes_wanted(pool, oid, index):
            return REFUSED
        pool.objects.setdefault(oid, {})[index] = content
        return 0

    def get(self, label, oid, index, get_and_free):
        pool = self.pools[label]
        return pool.get(oid, index, free=get_and_free == 1 or (get_and_free == 0 and not pool.persistent))


class Recipe:
    """What a trace is made of: a seed, the number of operations, and how oids and indexes are
    chosen."""

    def __init__(
        self, name, description, seed, ops, oids, indexes, capacity=None, failures=0.0, churn=0.0, moving=False
    ):
        self.name = name
        self.description = description
        self.seed = seed
        self.ops = ops
        self.oids = oids
        self.indexes = indexes
        self.capacity = capacity
        self.failures = failures
        self.churn = churn
        self.moving = moving


def few(count):
    return [[n, 0, 0] for n in range(count)]


def extreme():
    words = (0, 1, 2**63 - 1, 2**63, U64_MAX)
    return [[a, b, c] for a in words for b in words for c in words]


def dense(rng):
    return rng.randrange(300)


def sparse(rng):
    return rng.choice((0, 63, 64, 4095, 4096, 262143, 262144, 2**24 - 1, 2**24, 2**30, 2**32 - 1, rng.getrandbits(32)))


def wide(rng):
    """Indexes of every magnitude up to 64 bits, the edges of every tree level among them."""
    edge = 1 << 6 * rng.randrange(11)
    return min(U64_MAX, rng.choice((edge - 1, edge, edge + 1, rng.getrandbits(rng.randrange(1, 65)), U64_MAX)))


RECIPES = (
    Recipe("basics", "every operation, small objects", 1, 3000, few(25), dense),
    Recipe("sparse", "sparse 32-bit indexes, trees that grow and shrink", 2, 2500, few(12), sparse),
    Recipe("wide", "64-bit indexes: trees of all heights", 3, 2500, few(6), wide),
    Recipe("extreme-oids", "oids of zeros, ones and sign bits", 4, 2500, extreme(), dense, churn=0.01),
    Recipe("full", "a limit of 80 pages that moves", 5, 2500, few(15), dense, capacity=80, moving=True),
    Recipe("failures", "failed allocations of every sort", 6, 3000, few(10), sparse, failures=0.2),
    Recipe("failures-wide-full-churn", "everything at once", 7, 3000, extreme()[:30], wide, capacity=120, failures=0.1,
           churn=0.01, moving=True),
)


def lines_of(recipe):
    """All lines of a trace but the header."""
    rng = random.Random(recipe.seed)
    model = Reference(recipe.capacity)
    for label in range(4):
        model.pools[label] = ModelPool(persistent=label >= 2, shared=bool(label & 1))
        yield ["new_pool", label, label >> 1, label & 1]
    for _ in range(recipe.ops):
        label = rng.randrange(4)
        pool = model.pools[label]
        if rng.random() < recipe.churn:
            yield ["destroy_pool", label, 0]
            pool.objects.clear()
            yield ["new_pool", label, label >> 1, label & 1]
        oid = rng.choice(recipe.oids)
        known = pool.objects.get(tuple(oid))
        # Half of all operations go where a page is.
        index = rng.choice(list(known)) if known and rng.random() < 0.5 else recipe.indexes(rng)
        yield from operation(rng, recipe, model, label, oid, index)
        if rng.random() < 0.1:
            info = pool.object_info(tuple(oid))
            yield ["objstat", label, oid, *(info or [None])]
            yield ["stat", label, pool.obj_count]
        if rng.random() < 0.03:
            yield ["live_pages", model.live]
    for label, pool in sorted(model.pools.items()):
        yield ["final", label, [[list(oid), index, content] for oid, index, content in pool.pages()]]


def operation(rng, recipe, model, label, oid, index):
    """The lines of one random operation."""
    pool, key = model.pools[label], tuple(oid)
    kind = rng.choices(("put", "get", "flush_page", "flush_object"), (55, 30, 12, 3))[0]
    if kind == "put":
        if recipe.moving and rng.random() < 0.02:
            model.capacity = rng.randrange(recipe.capacity // 2, recipe.capacity + 1)
            yield ["pam_capacity", model.capacity]
        fail = None
        room = model.capacity is None or model.live - (index in pool.objects.get(key, ())) < model.capacity
        if room and rng.random() < recipe.failures:
            wanted = model.nodes_wanted(pool, key, index)
            fail = rng.choice(
                ["create"] + ["obj"] * (key not in pool.objects) + [rng.randint(1, wanted or 1)] * (3 * bool(wanted))
            )
            yield [f"inject_{fail if isinstance(fail, str) else 'objnode'}_fail", 1 if isinstance(fail, str) else fail]
        content = rng.choice((rng.getrandbits(64), rng.randrange(1000)))
        yield ["put", label, oid, index, content, model.put(label, key, index, content, fail)]
    elif kind == "get":
        mode = rng.choice((-1, -1, 0, 1))
        found = model.get(label, key, index, mode)
        yield ["get", label, oid, index, mode, -1 if found is None else 0, found]
    elif kind == "flush_page":
        yield ["flush_page", label, oid, index, 0 if pool.flush_page(key, index) else -1]
    else:
        yield ["flush_object", label, oid, 0 if pool.flush_object(key) else -1]


def write(recipe, folder=DATA):
    """Write one trace; its path."""
    lines = list(lines_of(recipe))
    header = {
        "format": 1, "reference": "tests/conformance/generate.py", "description": recipe.description,
        "pam_capacity": recipe.capacity, "seed": recipe.seed, "ops": recipe.ops,
        "records": dict(sorted(collections.Counter(line[0] for line in lines).items())),
    }
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in (header, *lines))
    path = folder / f"{recipe.name}.jsonl.gz"
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for one in RECIPES:
        made = write(one)
        print(f"{made.name}: {made.stat().st_size} bytes")
