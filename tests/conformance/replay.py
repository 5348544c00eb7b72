"""Owns replaying a conformance trace: every line run through an engine, every answer compared.

Traces without limits and failures go through the built-in back end; the others through a back end
and host operations written in Python, which hold the limit and the failures. Where an allocation of
a tree node was made to fail, the original leaves nodes behind and this engine does not: such
objects must have the shape that follows from their indexes alone, and the trace at least that.
"""
import gzip
import json

import engine
from tests.support import CountingHost, DictPam, page, tree_shape

REFUSED = -12
LIMITS = ("pam_capacity", "inject_obj_fail", "inject_objnode_fail", "inject_create_fail")


def read_trace(path):
    """(header, lines) of a trace."""
    with gzip.open(path, "rt") as file:
        header, *lines = map(json.loads, file)
    assert header["format"] == 1
    return header, lines


def expand(content):
    """The page that stands for a content: 8 to 512 bytes, other for every other content."""
    return page(content, 8 * (1 + content % 64))


class Replay:
    """One trace on one arena (of 512-byte pages)."""

    def __init__(self, eng, header, lines):
        self.eng = eng
        self.lines = lines
        self.pools = {}                 # label -> Pool
        self.indexes = {}               # label -> {oid: set of indexes}
        self.scarred = set()            # (label, oid) whose tree in the original may have leftovers
        self.names = 0
        self.pam = self.host = None
        self.objnode_failure = False    # an objnode failure is armed for the put that comes next
        if header["pam_capacity"] is not None or any(line[0] in LIMITS for line in lines):
            self.pam = DictPam(header["pam_capacity"])
            self.host = CountingHost()
            engine.register_pam("replay", lambda: self.pam)
            engine.register_hostops(self.host)

    def run(self):
        """Run all lines. An AssertionError names the line."""
        verbs = {name: getattr(self, name) for name in dir(self) if not name.startswith("_")}
        try:
            for number, line in enumerate(self.lines, start=2):
                try:
                    verbs[line[0]](*line[1:])
                except AssertionError as error:
                    raise AssertionError(f"line {number}: {line}: {error}") from error
        finally:
            if self.pam:
                engine.register_hostops(None)

    # --- operations -------------------------------------------------------------------------------

    def new_pool(self, label, persistent, shared):
        self.names += 1
        self.pools[label] = self.eng.new_pool(
            f"p{self.names}", persistent=bool(persistent), shared=bool(shared), pam="replay" if self.pam else "raw")
        self.indexes[label] = {}

    def put(self, label, oid, index, content, ret):
        done = self.pools[label].put(oid, index, expand(content))
        assert done is (ret == 0), f"answered {done}"
        oid, objects = tuple(oid), self.indexes[label]
        if done:
            objects.setdefault(oid, set()).add(index)
        else:
            self._forget(label, oid, index)
            if self.objnode_failure and oid in objects:
                self.scarred.add((label, oid))
        self.objnode_failure = False
        if self.pam:
            armed = (self.pam.refuse_next, self.host.refuse_obj, self.host.refuse_objnode)
            assert armed == (False, False, 0), f"a failure is still armed: {armed}"

    def get(self, label, oid, index, get_and_free, ret, content):
        pool = self.pools[label]
        free = get_and_free == 1 or (get_and_free == 0 and not pool.persistent)
        data = pool.get(oid, index, free=free)
        if ret == 0:
            assert data == expand(content), f"answered {data!r}"
            if free:
                self._forget(label, tuple(oid), index)
        else:
            assert data is None, f"answered {data!r}"

    def flush_page(self, label, oid, index, ret):
        done = self.pools[label].flush_page(oid, index)
        assert done is (ret == 0), f"answered {done}"
        self._forget(label, tuple(oid), index)

    def flush_object(self, label, oid, ret):
        done = self.pools[label].flush_object(oid)
        assert done is (ret == 0), f"answered {done}"
        self.indexes[label].pop(tuple(oid), None)
        self.scarred.discard((label, tuple(oid)))

    def destroy_pool(self, label, ret):
        assert ret == 0
        self.pools.pop(label).destroy()
        del self.indexes[label]
        self.scarred = {scar for scar in self.scarred if scar[0] != label}

    def _forget(self, label, oid, index):
        indexes = self.indexes[label].get(oid)
        if indexes is not None:
            indexes.discard(index)
            if not indexes:
                del self.indexes[label][oid]
                self.scarred.discard((label, oid))

    # --- observables ------------------------------------------------------------------------------

    def stat(self, label, obj_count):
        found = self.pools[label].obj_count
        assert found == obj_count, f"obj_count {found}"

    def objstat(self, label, oid, pampd_count, objnode_count=None, height=None):
        info = self.pools[label].object_info(oid)
        if pampd_count is None:
            assert info is None, f"answered {info}"
            return
        shape = tree_shape(self.indexes[label][tuple(oid)])
        assert info == (pampd_count, *shape), f"answered {info}; its indexes give {shape}"
        if (label, tuple(oid)) in self.scarred:
            assert objnode_count >= shape[0] and height >= shape[1]
        else:
            assert (objnode_count, height) == shape

    def live_pages(self, count):
        found = len(self.pam.stored) if self.pam else self.eng.stats()["total"]["pages"]
        assert found == count, f"{found} pages"

    def final(self, label, pages):
        pool = self.pools[label]
        for oid, index, content in pages:
            assert pool.get(oid, index, free=False) == expand(content), f"page {oid} {index}"
        assert self.eng.stats()["pools"][pool.name]["pages"] == len(pages)
        held = sorted([*oid, index] for oid, indexes in self.indexes[label].items() for index in indexes)
        assert held == [[*oid, index] for oid, index, _ in pages]

    # --- conditions -------------------------------------------------------------------------------

    def pam_capacity(self, pages):
        self.pam.capacity = pages

    def inject_obj_fail(self, _):
        self.host.refuse_obj = True

    def inject_objnode_fail(self, nth):
        self.host.refuse_objnode = nth
        self.objnode_failure = True

    def inject_create_fail(self, _):
        self.pam.refuse_next = True


def replay(eng, path):
    """Run the trace at `path` on an empty arena; then the arena must be sound, and the back end
    must hold what is in it."""
    header, lines = read_trace(path)
    run = Replay(eng, header, lines)
    run.run()
    report = eng.check()
    assert report.ok, report.problems
    if run.pam:
        total = eng.stats()["total"]
        assert (len(run.pam.stored), len(run.pam.objects)) == (total["pages"], total["objects"])
    for pool in eng.pools():
        pool.destroy()
    assert not run.pam or not (run.pam.stored or run.pam.objects)
    report = eng.check()
    assert report.ok and report.counts["pages"] == report.counts["objects"] == 0, report
