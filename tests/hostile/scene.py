"""Owns the arena under attack: small, populated, with a living neighbour and five dead workers;
kept as a pristine copy of its bytes, so that it is put back in a fraction of a millisecond.

Three scenes: `sparse` has room, `full` has none (puts are refused or go over the old page), `taken`
has every kind of thing that hangs on a dead worker: an open transaction with a bucket's lock,
staged pages, a pool half taken apart, a view.
"""
import errno
import mmap
import os
import random
import signal
import struct
import time

import engine
from engine.far import tiers
from engine.far.nodes import NOT_ASKED
from tests.hostile.structs import CONSTANTS, SIZES, Map, offset
from tests.support import SHM

PAGE = 1024
HUGE = 1 << 60
INDEXES = (0, 1, 2, 63, 64, 5000, 1 << 40, 2**64 - 1)
SENTINELS = {"OBJNODE_SENTINEL": "Objnode", "PAMPD_SENTINEL": "Pampd", "TWIN_SENTINEL": "Twin"}
OBJ, LEAN = CONSTANTS["OBJ_SENTINEL"], CONSTANTS["LEAN_SENTINEL"]     # of an obj, in the lower half of its word
PAM = "hostile"
KEPT = {}               # what far tiers have, by their targets
FAR_PAGES = 48          # of the pool with one, so many are far or nearly so
LEASES = range(6)       # names of those that are held: of even ones by `engine`, of others by `other`


class TolerantTier:
    """A far tier in a dict that answers any name, and whatever is asked with it."""

    deletes = True
    apart = False
    durable = False
    trouble = None
    longest = 1 << 20
    batch_bytes = 1 << 21

    def __init__(self, kept, nodes=None):
        self.kept = kept
        self.nodes = nodes

    @classmethod
    def make(cls, target, nonce, mode):
        return cls(KEPT.setdefault(target, {})), [0, 0, 0, 0]

    @classmethod
    def open(cls, target, nonce, words, nodes):
        return cls(KEPT[target], nodes)

    def prepare(self, lengths, words):
        return words

    def put_many(self, batch):
        self.kept.update(zip(batch.names, batch.values, strict=True))
        return [1] * len(batch.names)

    def get_many(self, names, tokens, lengths):
        """As a cluster of two nodes, of which one does not answer."""
        if self.nodes is not None:
            one, other = self.nodes.admit(["one:1", "other:2"], 1000)
            self.nodes.note([(ticket, address, len(names), 99, fault) for ticket, address, fault in (
                (one, "one:1", None), (other, "other:2", "late")) if ticket != NOT_ASKED])
            self.nodes.count("one:1", 1, 2)
        return [self.kept.get(name) for name in names]

    def delete_many(self, names, tokens):
        pass                # the arena is put back, and wants them again


class TolerantPam:
    """A back end that answers any token: what it is asked about may be garbage."""

    def __init__(self):
        self.stored = {}
        self.count = 0

    def create(self, pool_id, oid, index, data):
        self.count += 1
        self.stored[self.count] = data
        return self.count

    def get_data(self, pool_id, oid, index, token):
        return self.stored.get(token)

    def get_data_and_free(self, pool_id, oid, index, token):
        return self.stored.get(token)

    def free(self, pool_id, oid, index, token):
        pass

    def new_obj(self, pool_id, oid):
        pass

    def free_obj(self, pool_id, oid):
        pass

    def is_remote(self, token):
        return False

    def replace_in_obj(self, pool_id, oid, index, old, new):
        return True


def content(pool, oid, index, rnd, length=None):
    """Bytes of a page that names its handle; lengths of many size classes."""
    text = f"{pool}/{oid[0]}/{index}/{'x' * 9 * (pool == 'r')}".encode() if pool != "d" else b"equal %d/" % (index & 1)
    return (text * 200)[:length or rnd.choice((40, 100, 200, 500, 900, PAGE))]


def _dying(name, ready, go, act, fraction):
    """A worker that dies by SIGKILL somewhere in `act`; the same act on other handles tells how
    long it is."""
    mine = engine.attach(name)
    os.write(ready, b"x")
    os.read(go, 1)
    _overwrite(mine, 0)                     # fills the magazines: the next one has as many kill points as the last
    _look(mine, 2)                          # backs the table of pins
    mine.set_kill_point(HUGE)
    act(mine, 0)
    points = mine.kill_points()
    mine.set_kill_point(max(1, int(points * fraction)))
    act(mine, 1)
    os._exit(3)


def _overwrite(e, turn):
    e.pool("p").put((1, 0, 0), 64, b"T" * 900)


def _stage(e, turn):
    e.pool("p").put_range((50 + turn, 0, 0), 0, b"R" * (PAGE * 6))


def _destroy(e, turn):
    e.pool(f"gone{turn}").destroy()


def _write(e, turn):
    with e.pool("l").writing((70 + turn, 0, 0), 0, 70_000) as page:
        page[:] = b"L" * 70_000


def _hold_leases(e, turn):
    for lease in range(20, 24):
        e.lease(lease + turn * 4).acquire(timeout=1)
    e.lease(20 + turn * 4).release()


def _look(e, turn):
    e.pool("p").put((91 + turn, 0, 0), 0, b"V" * 700)
    with e.pool("p").view((91 + turn, 0, 0), 0):
        e.pool("p").put((91 + turn, 0, 0), 0, b"W" * 700)
        e.pool("p").flush_page((91 + turn, 0, 0), 0)


class Scene:
    """One populated arena and its pristine bytes."""

    def __init__(self, name, kind):
        self.name = name
        self.kind = kind
        self.scribbler = None
        rnd = random.Random(7)
        engine.register_pam(PAM, TolerantPam)
        self.engine = engine.create(name, "1MiB" if kind == "full" else "2MiB", page_size=PAGE, buckets=4,
                                    max_workers=8, max_pools=10)
        self.other = engine.attach(name)
        with engine.attach(name):
            pass                            # leaves a slot that was used and is free
        self.content = {}
        self.values = {}        # handles of values: key and word
        tiers.SCHEMES["hostile"] = TolerantTier
        self.pools = {
            "r": self._far_pool(),
            "p": self.engine.new_pool("p", persistent=True),
            "q": self.engine.new_pool("q", shared=False),
            "f": self.engine.new_pool("f", persistent=True, pam=PAM),
            "z": self.engine.new_pool("z", persistent=True, pam="lz4"),
            "d": self.engine.new_pool("d", dedup=True),
            "c": self.engine.new_pool("c", cap=24),
            "l": self.engine.new_pool("l", persistent=True, page_size="256KiB"),
        }
        for index, length in enumerate((66_000, 100, 100_000)):
            self.content["l", (0, 0, 0), index] = f"l/{index}/".encode() * (length // 4)
            self.pools["l"].put((0, 0, 0), index, self.content["l", (0, 0, 0), index])
        for obj in range(3):
            pages = [(f"c/{obj}/{index}/".encode() * 200)[:PAGE] for index in range(10, 17)]
            self.pools["c"].put_range((obj, 0, 0), 10, b"".join(pages))
            self.content.update({("c", (obj, 0, 0), 10 + at): page for at, page in enumerate(pages)})
        for key in "pqfzd":
            for obj in range(12 if key == "p" else 5):
                for index in rnd.sample(INDEXES, rnd.randrange(1, len(INDEXES))) if obj else (0, 1, 2, 3, 64):
                    self._put(key, (obj, 0, 0), index, rnd)
            self._put(key, (90, 0, 0), 0, rnd)      # height 0: the page hangs on the obj
        for key in "pqfzdl":
            for n in range(80, 86):
                self._put_value(key, (n, 0, 0), rnd)
        for turn in (0, 1):
            gone = self.engine.new_pool(f"gone{turn}")
            for obj in range(20 if turn else 2):
                for index in (0, 70):
                    gone.put((obj, 0, 0), index, b"G" * 300)
        for lease in LEASES:
            (self.engine, self.other)[lease % 2].lease(lease).acquire(timeout=0)
        if kind == "full":
            n = 0
            while self.pools["p"].put((200 + n % 7, 0, 0), n, content("p", (200 + n % 7, 0, 0), n, rnd)):
                n += 1
        if kind == "taken":
            self._deaths([(_overwrite, 0.55), (_stage, 0.4), (_destroy, 0.5), (_look, 0.8), (_write, 0.5),
                          (_hold_leases, 0.9)])
            self.content.pop(("p", (1, 0, 0), 64), None)        # its overwriter was killed: old or new
        self.fd = os.open(SHM / name, os.O_RDWR)
        self.size = os.fstat(self.fd).st_size
        self.map = mmap.mmap(self.fd, self.size)
        self.pristine = [(at, os.pread(self.fd, end - at, at)) for at, end in self.extents()]
        self.blocks = os.fstat(self.fd).st_blocks
        self.survey()

    def _far_pool(self):
        """A pool whose first pages are far: those behind were put to fill the arena, and are gone
        again. Of some that were far as well the tokens are dead."""
        pool = self.engine.new_pool("r", far=f"hostile:{self.name}")
        n = 0
        while self.engine.stats()["pools"]["r"]["far_pages"] < 2 * FAR_PAGES:
            pages = b"".join(content("r", (n, 0, 0), index, None, PAGE) for index in range(8))
            assert pool.put_range((n, 0, 0), 0, pages) and n < 1000
            n += 1
            self.engine.spill()
        for oid in range(FAR_PAGES // 8, n):
            pool.flush_object((oid, 0, 0))
        for oid in range(FAR_PAGES // 8):
            for index in range(8):
                self.content["r", (oid, 0, 0), index] = content("r", (oid, 0, 0), index, None, PAGE)
        self.engine.pool("r").get((0, 0, 0), 0)         # fills the table of nodes
        return pool

    def _put(self, key, oid, index, rnd):
        data = content(key, oid, index, rnd)
        if self.pools[key].put(oid, index, data):
            self.content[key, oid, index] = data

    def _put_value(self, key, oid, rnd):
        data = rnd.choice((content(key, oid, 0, rnd), struct.pack("<q", oid[0]), b""))
        of_value = rnd.choice((b"", b"key %d" % oid[0] * 3, None)), rnd.choice((oid[0], None))
        if self.pools[key].put_object(oid, data, key=of_value[0], word=of_value[1], ttl=rnd.choice((None, 9000))):
            self.content[key, oid, 0] = data
            self.values[key, oid, 0] = of_value

    def _deaths(self, acts):
        procs = []
        for act, fraction in acts:
            ready, told = os.pipe()
            wait, go = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    os.close(go)
                    _dying(self.name, told, wait, act, fraction)
                finally:
                    os._exit(4)
            os.close(told)
            os.close(wait)
            os.read(ready, 1)
            os.close(ready)
            procs.append((pid, go))
        for pid, go in procs:
            os.write(go, b"x")
            os.close(go)
            _, status = os.waitpid(pid, 0)
            if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
                raise AssertionError(f"a worker that should die did not: {status}")

    def extents(self):
        """(start, end) of every part of the file that has memory."""
        found, at = [], 0
        while True:
            try:
                start = os.lseek(self.fd, at, os.SEEK_DATA)
                at = os.lseek(self.fd, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return found
                raise
            found.append((start, at))

    def restore(self):
        """Every byte as it was, memory the attack has taken given back."""
        for at, data in self.pristine:
            os.pwrite(self.fd, data, at)
        if os.fstat(self.fd).st_blocks != self.blocks:
            before = [(at, at + len(data)) for at, data in self.pristine]
            for start, end in self.extents():
                for low, high in before:
                    if start < low < end:
                        self.map.madvise(mmap.MADV_REMOVE, start, low - start)
                        start = low
                    if low <= start < high:
                        start = high
                if start < end:
                    self.map.madvise(mmap.MADV_REMOVE, start, end - start)

    def toggle(self, changes):
        """Let a process of its own write these words and their old values in turn, as fast as it
        can, until `rest`."""
        if self.scribbler is None:
            self.orders = mmap.mmap(-1, mmap.PAGESIZE)
            parent = os.getpid()
            self.scribbler = os.fork()
            if self.scribbler == 0:
                try:
                    self._scribble(parent)
                finally:
                    os._exit(0)
        flat = [word for at, new in changes for word in (at, self.word(at), new)][:3 * 20]
        struct.pack_into(f"<{len(flat) + 1}Q", self.orders, 8, len(flat) // 3, *flat)
        self.orders[0] = 1
        while self.orders[1] == 0:
            time.sleep(0)

    def rest(self):
        """The words are left alone from here on."""
        if self.scribbler is not None and self.orders[0]:
            self.orders[0] = 0
            while self.orders[1]:
                time.sleep(0)

    def _scribble(self, parent):
        shared = memoryview(self.map).cast("Q")
        while os.getppid() == parent:
            if self.orders[0] == 0:
                self.orders[1] = 0
                time.sleep(0.0005)
                continue
            n, = struct.unpack_from("<Q", self.orders, 8)
            flat = struct.unpack_from(f"<{3 * n}Q", self.orders, 16)
            words = [(at // 8, old, new) for at, old, new in zip(flat[::3], flat[1::3], flat[2::3], strict=True)]
            self.orders[1] = 1
            for _ in range(200):
                for at, _, new in words:
                    shared[at] = new
                for at, old, _ in words:
                    shared[at] = old

    def word(self, at):
        return struct.unpack_from("<Q", self.map, at)[0]

    def survey(self):
        """Find every struct: self.things is {kind: [offset]}, self.pages {handle: (pampd, data,
        length)}."""
        m = self.layout = Map(self.map[:4096])
        things = self.things = {"Depot": [m.depot], "ClientPage": [m.table]}
        high = self.word(m.depot + offset("Depot", "slots_high"))
        self.slots_high = high
        things["Slot"] = [m.slot(i) for i in range(high)]
        self.seg_high = self.word(m.depot + offset("Depot", "seg_high"))
        things["Segment"] = [m.segment(i) for i in range(self.seg_high)]
        things["PoolRecord"] = [m.record(i) for i in range(self.word(m.table + offset("ClientPage", "pools_high")))]
        things["Bucket"] = [m.bucket(p, i) for p in range(len(things["PoolRecord"])) for i in range(m.buckets)]
        things["Queue"] = [m.queue(p, i) for p in range(len(things["PoolRecord"])) for i in range(m.shards)]
        things["TwinBucket"] = [m.twin_bucket(i) for i in range(m.twin_buckets)]
        backed = self.word(m.table + offset("ClientPage", "leases"))
        buckets = [m.lease_bucket(i) for i in range(CONSTANTS["LEASE_BUCKETS"])]
        page = CONSTANTS["CLIENT_PAGE"]
        things["LeaseBucket"] = [at for at in buckets if backed >> (at - buckets[0]) // page & 1]
        places = [at + offset("LeaseBucket", "leases", i) for at in things["LeaseBucket"]
                  for i in range(CONSTANTS["LEASES_A_BUCKET"])]
        things["Lease"] = [at for at in places if self.word(at)]
        things["FarNode"] = [m.far_record(self.pools["r"].id) + offset("FarRecord", "nodes", i)
                             for i in range(CONSTANTS["FAR_NODES"])]
        things["FarRecord"] = [m.far_record(self.pools["r"].id)]
        things["FarQueue"] = [m.queue(self.pools["r"].id, i) + offset("Queue", "far_head") for i in range(m.shards)]
        things["DeadRing"] = [m.dead_ring]
        things["Shard"] = [m.shard(i) for i in range(m.shards)]
        low = m.where["segments"]
        self.seg_end = low + self.seg_high * m.seg_bytes
        kinds = {}
        for name, struct_name in SENTINELS.items():
            kinds[CONSTANTS[name]] = struct_name
            kinds[~CONSTANTS[name] & 2**64 - 1] = "Retired" + struct_name
            things[struct_name] = []
            things["Retired" + struct_name] = []
        things["Obj"], things["RetiredObj"], things["Stem"] = [], [], []
        for at in range(low, self.seg_end, 64):
            word = self.word(at)
            if word in kinds:
                things[kinds[word]].append(at)
            elif word & 0xFFFFFFFF in (OBJ, LEAN):
                things["Obj"].append(at)
                if not self.is_lean(at):
                    things["Stem"].append(at + SIZES["Obj"])
            elif ~word & 0xFFFFFFFF in (OBJ, LEAN):
                things["RetiredObj"].append(at)
        self.pages = {}
        by_handle = {}
        names = {pool.id: key for key, pool in self.pools.items()}
        for at in things["Pampd"]:
            obj = self.word(at + offset("Pampd", "obj"))
            pool = self.word(obj) >> 32 & 0xFFFF if low <= obj < self.seg_end else None
            if pool in names:
                oid = tuple(self.word(obj + offset("Obj", "oid", i)) for i in range(3))
                index = 0 if self.is_lean(obj) else self.word(at + offset("Pampd", "index"))
                by_handle[names[pool], oid, index] = at
        for handle in self.content:
            at = by_handle.get(handle)
            if at is not None:
                data = self.word(at + offset("Pampd", "data"))
                twin = data if data in things["Twin"] else 0
                data = self.word(twin + offset("Twin", "data")) if twin else data
                key, word = self.values.get(handle, (None, None))
                tail = (key is not None or word is not None) * 4 + len(key or b"") + (word is not None) * 8
                self.pages[handle] = (at, data, len(self.content[handle]) + tail, twin)
        state = offset("Slot", "state")
        mine = (self.engine.worker_id, self.other.worker_id)
        self.dead = [i for i in range(high)
                     if self.word(m.slot(i) + state) == CONSTANTS["SLOT_LIVE"] and i not in mine]
        self.ids = [self.word(m.slot(i) + offset("Slot", "gen")) << 16 | (i + 1) for i in range(high)]

    def is_lean(self, obj):
        """True of an obj without a stem."""
        return self.word(obj) & 0xFFFFFFFF == LEAN

    def claimed(self):
        """Living workers that hold a lock by all that can be known: its word names them, and they
        say so. Others wait."""
        found = set()
        for i in (self.engine.worker_id, self.other.worker_id):
            for n in range(CONSTANTS["HELD_MAX"]):
                at = self.word(self.layout.slot(i) + offset("Slot", "held", n))
                if at and at + 8 <= self.size and self.word(at) & 0xFFFF == i + 1:
                    found.add(i)
        return found

    def excused(self, touched):
        """Handles whose bytes may be wrong after this damage: their page, its descriptor or the
        object's id was hit.
        None: any of them, for what a recovery will write itself was hit."""
        m = self.layout
        low, high = m.slot(0), m.where["ledgers"]
        oid = offset("Obj", "oid")
        for at, length in touched:
            if (low <= at < high or m.where["journals"] <= at < m.where["segtable"]) and self.dead:
                return None
            for obj in self.things["Obj"]:
                if at < obj + oid + 24 and obj + oid < at + length:
                    return None
        return {
            handle
            for handle, (pampd, data, n, twin) in self.pages.items()
            for at, length in touched
            if any(at < start + size and start < at + length for start, size in ((pampd, 64), (data, n), (twin, 64)))
        }

    def close(self):
        if self.scribbler:
            os.kill(self.scribbler, signal.SIGKILL)
            os.waitpid(self.scribbler, 0)
        self.map.close()
        os.close(self.fd)
