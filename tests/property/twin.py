"""Owns running an operation on an engine and on the dictionary model at once: both must answer the
same.

Used by the state machine, the seeded runs and the million-operation script. The arena must be large
enough that nothing is refused or dropped.
"""
from tests.support import KINDS, ModelPool, mixed, page

PAGE = 512


class TwinPool:
    """A pool and its model. `via` chooses how the pool is called: "pool", or "object" for the
    handle of one oid."""

    def __init__(self, pool):
        self.pool = pool
        self.model = ModelPool(pool.persistent, pool.shared, pool.page_size)
        self.handles = {}

    def _answer(self, verb, via, oid, *args):
        if via == "pool":
            return getattr(self.pool, verb)(oid, *args)
        handle = self.handles.get(oid)
        if handle is None:
            handle = self.handles[oid] = self.pool.object(oid)
        return getattr(handle, verb)(*args)

    def both(self, verb, via, oid, *args):
        """One operation on both; what both answered."""
        told = self._answer(verb, via, oid, *args)
        wanted = getattr(self.model, verb)(oid, *args)
        assert told == wanted and type(told) is type(wanted), f"{verb} {oid} {args}: {told!r}, not {wanted!r}"
        return told

    def many(self, verb, via, oid, places, *args):
        """put_many or get_many on both: of handles in all objects, or of the indexes in one with
        via "object"."""
        handles = [(oid, index) for _, index in places] if via == "object" else places
        if via == "object":
            told = self._answer(verb, via, oid, [index for _, index in places], *args)
        else:
            told = getattr(self.pool, verb)(handles, *args)
        wanted = getattr(self.model, verb)(handles, *args)
        assert told == wanted and type(told) is list, f"{verb} {handles} {args}: {told!r}, not {wanted!r}"
        return told

    def get_range_into(self, via, oid, index, count, free):
        """get_range_into on both, with buffers that are a little longer than the pages can be."""
        told, wanted = bytearray(b"\xaa" * (PAGE * count + 8)), bytearray(b"\xaa" * (PAGE * count + 8))
        length = self._answer("get_range_into", via, oid, index, count, told, free)
        assert length == self.model.get_range_into(oid, index, count, wanted, free), (
            f"get_range_into {oid} {index} {count} {free}: {length}"
        )
        assert length < 0 or told == wanted, f"get_range_into {oid} {index} {count} {free}"

    def view(self, via, oid, index, count):
        """Look at pages: (view, their bytes), or None on a miss, as the model says."""
        pages = [self.model.get(oid, (index + i) % 2**64, False) for i in range(count or 1)]
        if index + len(pages) > 2**64:
            return None
        view = self.pool.view(oid, index, count) if via == "pool" else self.pool.object(oid).view(index, count)
        found = view.__enter__()
        if None in pages:
            assert found is None
            return None
        assert [bytes(one) for one in (found if count else (found,))] == pages
        return view, pages

    def get_into(self, via, oid, index, free):
        """get_into on both, with buffers that are a little longer than a page; what lies behind the
        page stays."""
        told, wanted = bytearray(b"\xaa" * (PAGE + 8)), bytearray(b"\xaa" * (PAGE + 8))
        length = self._answer("get_into", via, oid, index, told, free)
        assert length == self.model.get_into(oid, index, wanted, free), f"get_into {oid} {index} {free}: {length}"
        assert told == wanted, f"get_into {oid} {index} {free}"
        return length

    def compare_counts(self):
        assert self.pool.obj_count == self.model.obj_count

    def compare_all(self):
        """Every page, every object's shape."""
        self.compare_counts()
        for oid, index, data in self.model.pages():
            assert self.pool.get(oid, index, free=False) == data, f"page {oid} {index}"
        for oid in self.model.objects:
            assert self.pool.object_info(oid) == self.model.object_info(oid), f"shape of {oid}"


class Twins:
    """An arena with pools of all four kinds, and their models; `content` makes their pages."""

    def __init__(self, eng, pam="raw", dedup=False):
        self.eng = eng
        self.pam = pam
        self.dedup = dedup
        self.content = page if pam == "raw" and not dedup else mixed
        if dedup:
            self.content = lambda tag, length=PAGE: mixed(
                tag % 16, PAGE if tag % 3 else length
            )  # the same ones again and again
        self.made = 0
        self.pools = {}
        for kind in KINDS:
            self.renew(kind)

    def renew(self, kind):
        """A new, empty pool of this kind in place of the old one, which is destroyed with all it
        holds."""
        if kind in self.pools:
            self.pools[kind].pool.destroy()
        self.made += 1
        self.pools[kind] = TwinPool(self.eng.new_pool(f"{kind}-{self.made}", pam=self.pam, **KINDS[kind],
                                                         dedup=self.dedup and not KINDS[kind]["persistent"]))

    def compare_all(self):
        """Everything, and the arena's own check."""
        for twin in self.pools.values():
            twin.compare_all()
        report = self.eng.check()
        assert report.ok, report.problems
        wanted = {
            "pools": len(self.pools),
            "objects": sum(twin.model.obj_count for twin in self.pools.values()),
            "pages": sum(twin.model.page_count for twin in self.pools.values()),
        }
        assert {key: report.counts[key] for key in wanted} == wanted
        total = self.eng.stats()["total"]
        assert (total["objects"], total["pages"]) == (wanted["objects"], wanted["pages"])
        asked = sum(len(data) for twin in self.pools.values() for _, _, data in twin.model.pages())
        assert total["bytes_asked"] == asked and total["bytes_stored"] <= asked + 8 * wanted["pages"]


OIDS = [(n, 0, 0) for n in range(12)] + [(2**64 - 1,) * 3, (0, 0, 1), (0, 1, 0), (2**63, 0, 0)]
EDGES = [0, 1, 62, 63, 64, 65, 4095, 4096, 262143, 262144, 2**32 - 1, 2**32, 2**60, 2**63, 2**64 - 600]
VERBS, WEIGHTS = zip(
    ("put", 40),
    ("get", 25),
    ("get_into", 8),
    ("flush_page", 10),
    ("flush_object", 0.3),
    ("put_range", 4),
    ("get_range", 5),
    ("object_info", 5),
    ("renew", 0.02),
    ("get_range_into", 3),
    ("put_many", 2),
    ("get_many", 2),
    strict=True,
)


def random_steps(twins, rng, count):
    """Do `count` random operations."""
    kinds = list(KINDS)
    for verb in rng.choices(VERBS, WEIGHTS, k=count):
        kind = rng.choice(kinds)
        if verb == "renew":
            twins.renew(kind)
            continue
        twin = twins.pools[kind]
        via = rng.choice(("pool", "object"))
        oid = rng.choice(OIDS)
        index = rng.choice(EDGES) + rng.randrange(3) if rng.random() < 0.3 else rng.randrange(200)
        free = rng.choice((None, None, True, False, False))
        if verb == "put":
            twin.both(verb, via, oid, index, twins.content(rng.getrandbits(64), rng.randint(1, PAGE)))
        elif verb == "get":
            twin.both(verb, via, oid, index, free)
        elif verb == "get_into":
            twin.get_into(via, oid, index, free)
        elif verb == "flush_page":
            twin.both(verb, via, oid, index)
        elif verb == "put_range":
            twin.both(verb, via, oid, index, twins.content(rng.getrandbits(64), rng.randint(1, 8 * PAGE)))
        elif verb == "get_range":
            twin.both(verb, via, oid, index, rng.randint(1, 4), free)
        elif verb == "get_range_into":
            twin.get_range_into(via, oid, index, rng.randint(1, 4), free)
        elif verb in ("put_many", "get_many"):
            places = [
                (rng.choice(OIDS), rng.choice((index, rng.randrange(200))))
                for _ in range(rng.choice((0, 1, 5, 20, 300)))
            ]
            more = (
                [twins.content(rng.getrandbits(64), rng.randint(1, PAGE)) for _ in places]
                if verb == "put_many"
                else free
            )
            twin.many(verb, via, oid, places, more)
        else:
            twin.both(verb, via, oid)
