"""Owns restoring: the blocks of a snapshot into pools, by the ordinary puts.

A new arena is made under a name of its own, and has the name that was asked for when it is whole.
In an arena that is there pools are made under such names, too. What is left of a restore that died
is removed by the next one.
Pages go in as they were stored. Objects of caches, whose oids follow from their keys and from a
secret of the arena, get the oids that belong to the arena they come into. Where there is no room
for all, persistent pools come first, and then what was hit most.
Kill at any instruction: nothing has the name that was asked for.
"""
import contextlib
import os
import re
import time

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.engine.cache.keys import KIND_SHIFT, is_key, oid_from
from cython.cimports.engine.layout.call import RANGE_MAX, Call, Packed, Value
from cython.cimports.engine.layout.stream import (
    AS_IT_IS,
    BLOCK_BYTES,
    BLOCK_GONE,
    BLOCK_OBJECTS,
    BLOCK_TRAILER,
    FIRST,
    LAST,
    ONE_WORD,
    PACKED_LZ4,
    PACKED_ZSTD,
    WITH_FORMER,
    WITH_TAIL,
    Block,
    SavedObject,
    SavedPage,
    padded,
)
from cython.cimports.engine.layout.structs import (
    FLUSHES,
    GETS_HIT,
    GETS_MISS,
    PUTS_DUPLICATE,
    PUTS_OK,
    PUTS_REFUSED,
)
from cython.cimports.engine.layout.tail import TRAILER_BYTES, tail_before
from cython.cimports.engine.layout.words import LZ4, PACKED_UNIT_SHIFT, ZSTD
from cython.cimports.engine.member.arguments import aim
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.pages.pam.packed import digest
from cython.cimports.engine.snapshots.repeated import Repeated, repeated
from cython.cimports.engine.snapshots.source import BLOCK_BAD, BLOCK_END, Source
from cython.cimports.engine.verbs.fetch import peek
from cython.cimports.engine.verbs.value import touch_object
from cython.cimports.libc.string import memcmp, memcpy, memset
from cython.cimports.shm.clock import now
from cython.cimports.shm.extent import room_of
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.layout import EXTENT_CLASS, EXTENT_MAX, OK, Worker, set_mark, slot_at, u64
from cython.cimports.shm.seal import seal
from cython.cimports.shm.segments import class_of
from engine.api import session
from engine.api.opening import DEFAULTS, create_again
from engine.errors import ArenaFull, PoolExists, PoolNotFound, SnapshotDamaged, TmemError
from engine.pages.pam.packed import framed
from engine.sizes import parse_size
from engine.snapshots.report import Restored
from engine.snapshots.source import open_source, refuse
from shm import arena as arenas
from shm.kernel.liveness import SHM_DIR, alive_held

RUN_MAX = 8 << 20           # bytes of pages that are put together
HEATS = (3, 2, 1, 0)
PAGE_COST = cython.declare(u64, 256)       # bytes of what describes a page, about
COUNTS = (PUTS_OK, PUTS_REFUSED, PUTS_DUPLICATE, GETS_HIT, GETS_MISS, FLUSHES)
SPARE = 1.25                # how much more than they took before pages may take
FRAME_UNIT = cython.declare(u64, 1 << PACKED_UNIT_SHIFT)
SLACK = 8 << 20             # bytes of capacity that are not asked for to the last


def restore(
    file,
    name,
    capacity=None,
    *,
    partial=False,
    page_size=None,
    buckets=256,
    max_workers=256,
    max_pools=1024,
    mode=0o600,
    group=None,
    huge_pages=True,
    shards=None,
    max_capacity=None,
    max_pinned=None,
    preallocate=False,
):
    """Make pools of what Engine.save wrote: in a new arena, or in the one that has the name. A
    Restored: what came of it.

    file: a path, or an open binary file. name: of the arena; if there is none, it is made with this
    capacity and page_size (None: those that were saved) and the other arguments of engine.create,
    and has its name when all is in it. In one that is there, no pool may have the name
    of one that was saved (PoolExists). Where there is no room for all, persistent pools come first,
    then what was hit most. partial: go on over parts that are damaged, and over persistent pages
    for which there is no room; else both end it, and nothing is there of it. Raises
    SnapshotDamaged, SnapshotVersionMismatch, ArenaFull, OSError, and what engine.create and
    new_pool raise."""
    arenas.check_name(name)
    if not isinstance(partial, bool):
        raise TypeError(f"partial: True or False, not {type(partial).__name__}")
    options = dict(
        page_size=page_size, buckets=buckets, max_workers=max_workers, max_pools=max_pools, mode=mode, group=group,
        huge_pages=huge_pages, shards=shards, max_capacity=max_capacity, max_pinned=max_pinned, preallocate=preallocate,
    )
    source: Source = open_source(file)
    try:
        if os.path.lexists(f"{SHM_DIR}/{name}"):
            said = [key for key, value in options.items() if value != USUAL[key]]
            if capacity is not None or said:
                raise ValueError(
                    f"{'capacity' if capacity is not None else said[0]}: arena {name!r} is there already, and "
                    "stays as it was made; leave it out, or take another name"
                )
            with session.attach(name) as engine:
                return _restore(source, engine, partial, False)
        return _into_new(source, name, source.said["capacity"] if capacity is None else capacity, partial, options)
    finally:
        source.close(file)


def _into_new(source, name, capacity, partial, options):
    """In an arena that is made for it."""
    made = None
    pid = os.getpid()
    _sweep(name)
    building = f"{name[:170]}.restoring-{os.urandom(6).hex()}"
    if options["page_size"] is None:
        options["page_size"] = source.said["page_size"]
    parse_size("capacity", capacity)
    try:
        made = create_again(building, source.said["secret"], capacity, options)
        done = _restore(source, made, partial, True)
        made.close()
        arenas.rename(building, name)
    except BaseException:
        if os.getpid() == pid:          # else this is a forked child, and the parent goes on with it
            with contextlib.suppress(TmemError):
                arenas.unlink(building)
            if made is not None:
                made.close()
        raise
    return done


def _sweep(name):
    """Remove what restores of the same name have left that died."""
    pattern = re.compile(re.escape(name[:170]) + r"\.restoring-[0-9a-f]{12}")
    found = os.listdir(SHM_DIR)
    for one in found:
        if pattern.fullmatch(one):
            beside = [other for other in found if other.startswith(f"alive.{one}@")]
            # Who is about to make one has no liveness file yet, or nobody in it.
            age = time.time() - os.lstat(f"{SHM_DIR}/{one}").st_mtime if os.path.lexists(f"{SHM_DIR}/{one}") else 0
            if age > LEFT_S and not any(alive_held(f"{SHM_DIR}/{other}") for other in beside):
                with contextlib.suppress(TmemError):
                    arenas.unlink(one)


USUAL = DEFAULTS | {"page_size": None}
LEFT_S = 2.0        # between making an arena and living in it


def _restore(source, engine, partial, fresh):
    """Into this arena, which is `fresh` if nothing is in it."""
    pid = os.getpid()
    restorer: Restorer = Restorer.__new__(Restorer)
    restorer.begin(source, engine, partial, fresh)
    try:
        restorer.make_pools()
        restorer.go_over()
        return restorer.finish()
    except BaseException:
        if os.getpid() == pid:
            restorer.undo()
        raise


def _unusable(what):
    return SnapshotDamaged(f"a block says what cannot be: {what}")


@cython.cclass
class Restorer:
    """A restore under way."""

    def begin(self, source, engine, partial, fresh):
        self.source = source
        self.engine = engine
        self.partial = partial
        self.fresh = fresh
        self.secret = source.said["secret"]
        self.wall = time.time_ns()
        self.behind = self.wall - now(cython.address(self.engine.att.w))
        self.pools = []
        self.gone = set()
        self.scratch = PyBytes_FromStringAndSize(cython.NULL, BLOCK_BYTES)
        return 0

    # --- pools ------------------------------------------------------------------------------------

    def make_pools(self):
        """Make them all under names of their own, but those that have grown stale."""
        engine = cython.cast(object, self.engine)
        there = {pool.name for pool in engine.pools()}
        said = self.source.said
        names = [pool["name"] for pool in said["pools"]]
        for name in names:
            if name in there:
                raise PoolExists(
                    f"arena {self.engine.name!r} has a pool {name!r} already; only pools that are not there are "
                    "restored: destroy it, or restore into another arena"
                )
        if len(set(names)) != len(names):
            raise _unusable("two pools of one name")
        self.sweep_pools(there)
        limit = said.get("max_age")
        old = limit is not None and self.wall - said["saved"] > limit * 1e9
        for place, pool in enumerate(said["pools"]):
            if old and not pool["persistent"]:
                self.pools.append(None)
                continue
            self.pools.append(engine.new_pool(
                f"restoring.{self.engine.att.w.id:x}.{place:x}", persistent=pool["persistent"], shared=pool["shared"],
                client=pool["client"], pam=pool["pam"], policy=pool["policy"],
                cap=f"{pool['cap_bytes']}B" if pool["cap_bytes"] else pool["cap"], allow=pool.get("allow"),
                dedup=pool["dedup"], whole=pool["whole"] or pool["persistent"], page_size=pool["page_size"],
            ))
        return 0

    def sweep_pools(self, names):
        """Destroy what restores into this arena have left that died."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        slots = [one["worker"] for one in cython.cast(object, self.engine).stats()["workers"]]
        living = {slot_at(w, slot).gen << 16 | (slot + 1) for slot in slots}
        for name in names:
            found = re.fullmatch(r"restoring\.([0-9a-f]+)\.[0-9a-f]+", name)
            if found and int(found[1], 16) not in living:
                with contextlib.suppress(PoolNotFound):
                    cython.cast(object, self.engine).pool(name).destroy()

    def undo(self):
        """Destroy what was made."""
        for pool in self.pools:
            if pool is not None:
                with contextlib.suppress(TmemError):
                    pool.destroy()

    # --- passes over the stream -------------------------------------------------------------------

    def go_over(self):
        """All of it: once if there is room, or it can be read but once, or pages of others can go
        for it; else the persistent pools first, and then the others by how often they were hit."""
        arena = cython.cast(object, self.engine).stats()["arena"]
        need = sum(pool["bytes"] for pool in self.source.said["pools"]) * SPARE + SLACK
        if need <= arena["bytes_free"] or not self.source.again or not self.fresh:
            return self.pass_over(True, True, -1)
        self.pass_over(True, False, -1)
        for heat in HEATS:
            if any(pool is not None and not pool.persistent for pool in self.pools):
                self.source.rewind()
                self.pass_over(False, True, heat)
        return 0

    def pass_over(self, persistent, ephemeral, heat):
        """The blocks from where the source is to its end."""
        status: cython.int = 0
        pool: Bound
        block: Block
        first: cython.bint = persistent
        ended: cython.bint = False
        self.persistent = persistent
        self.ephemeral = ephemeral
        self.heat = heat
        self.begun = False
        epoch: cython.int = self.engine.att.epoch
        while True:
            self.engine.refuse_fork(epoch)
            status = self.source.next()
            if status != BLOCK_END and ended:
                self.source.why = f"{self.source.where}: something follows its end"
                status = BLOCK_BAD
            if status == BLOCK_BAD or (status == BLOCK_END and not ended) or self.source.lost != 0:
                if status == BLOCK_END:
                    self.source.why = f"{self.source.where}: its end is missing"
                elif status != BLOCK_BAD:
                    self.source.why = f"{self.source.where}: a block is missing"
                if not self.partial:
                    raise refuse(self.source)
                # A block that is damaged is missing before the next one, too.
                if first:
                    self.missing += status == BLOCK_END or self.source.lost
            if status == BLOCK_END:
                return self.end_object()
            if status == BLOCK_BAD:
                continue
            block = self.source.head
            if block.kind == BLOCK_TRAILER:
                ended = True
            elif block.kind == BLOCK_OBJECTS or block.kind == BLOCK_GONE:
                self.take_guarded(block.kind, block.pool, block.length, block.heat)
            self.source.skip()
            kill_point(cython.address(self.engine.att.w))

    def take_guarded(self, kind, place, length, heat):
        """What is in a block, which may be anything but its sum."""
        try:
            if place >= len(self.pools):
                raise _unusable("a pool that is not in the list")
            pool = self.pools[place]
            if pool is None or place in self.gone:
                return 0
            if kind == BLOCK_GONE:
                self.gone.add(place)
                pool.destroy()
            elif self.persistent if pool.persistent else self.ephemeral:
                if self.heat >= 0:
                    self.budget = cython.cast(object, self.engine).stats()["arena"]["bytes_free"]
                self.take_block(pool, self.source.inside(), length, heat)
        except SnapshotDamaged as error:
            if not self.partial:
                raise SnapshotDamaged(f"{self.source.where}: {error}") from None
            self.missing += 1
        return 0

    def take_block(self, pool, at, length, heat):
        """The objects of a block."""
        o: SavedObject
        s: SavedPage
        done: u64 = 0
        i: cython.uint
        while done < length:
            if length - done < cython.sizeof(SavedObject):
                raise _unusable("an object that is cut")
            memcpy(cython.address(o), at + done, cython.sizeof(SavedObject))
            done += cython.sizeof(SavedObject)
            self.begin_object(pool, cython.address(o), at + done, length - done, heat)
            for i in range(o.pages):
                if length - done < cython.sizeof(SavedPage):
                    raise _unusable("a page that is cut")
                memcpy(cython.address(s), at + done, cython.sizeof(SavedPage))
                done += cython.sizeof(SavedPage)
                if padded(s.piece) > length - done:
                    raise _unusable("a page that is cut")
                if self.wanted:
                    self.take_page(cython.address(s), at + done, o.pages == 1 and o.notes == FIRST | LAST)
                done += padded(s.piece)
            if o.notes & LAST:
                self.end_object()
        return 0

    # --- objects ----------------------------------------------------------------------------------

    def begin_object(self, pool, o, first, left, heat):
        """An object of the stream begins, or goes on."""
        s: SavedPage
        hottest: u64 = 0
        done: u64 = 0
        i: cython.uint
        same: cython.bint = self.begun and pool is self.pool and memcmp(self.oid, o.oid, 24) == 0
        if not same and not o.notes & FIRST and not self.partial:
            raise _unusable("an object that did not begin")
        if not same or o.notes & FIRST:
            if same:
                self.drop()         # it has changed while it was saved, and comes anew
            else:
                self.end_object()
            self.pool = pool
            memcpy(self.oid, o.oid, 24)
            self.hash = hash_oid(o.oid[0], o.oid[1], o.oid[2])
            self.begun = True
            self.put_here = 0
            self.wanted = True
            if self.heat >= 0:
                hottest = heat
                if o.notes & LAST:
                    hottest = 0
                    for i in range(o.pages):
                        if left - done < cython.sizeof(SavedPage):
                            break
                        memcpy(cython.address(s), first + done, cython.sizeof(SavedPage))
                        hottest = max(hottest, s.hits)
                        done = min(left, done + cython.sizeof(SavedPage) + padded(s.piece))
                self.wanted = min(hottest, 3) == cython.cast(u64, self.heat)
        self.expires = 0
        if o.expires != 0 and o.expires <= self.wall:
            self.expired += self.wanted
            self.wanted = False
        elif o.expires != 0:
            self.expires = o.expires - self.behind
        if self.wanted and self.full and not pool.persistent:
            self.refused += o.pages
            self.wanted = False
        return 0

    def end_object(self):
        """What was begun is complete, or goes on nowhere."""
        c: Call
        v: Value
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        self.end_run()
        self.long = None
        if not self.begun:
            return 0
        self.begun = False
        if self.put_here == 0:
            return 0
        self.objects += 1
        if self.expires != 0:
            aim(cython.address(c), self.oid, self.hash, 0)
            memset(cython.address(v), 0, cython.sizeof(Value))
            v.expires = self.expires
            c.ask.value = cython.address(v)
            self.pool.enter()
            try:
                self.pool.attempt(cython.address(c), touch_object)
            finally:
                self.pool.leave()
        kill_point(w)
        return 0

    def drop(self):
        """The object begins anew."""
        c: Call
        self.run_count = 0
        self.long = None
        self.pages -= self.put_here
        if self.put_here != 0:
            aim(cython.address(c), self.oid, self.hash, 0)
            self.pool.flush_object_call(cython.address(c))
        self.put_here = 0
        return 0

    # --- pages ------------------------------------------------------------------------------------

    def take_page(self, s, data, alone):
        """A page, or a piece of one."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        codec: u64 = LZ4 if s.how == PACKED_LZ4 else ZSTD if s.how == PACKED_ZSTD else 0
        if (s.length > EXTENT_MAX or s.how > PACKED_ZSTD or (codec != 0 and codec != self.pool.ref.codec)
                or (s.how == AS_IT_IS and s.stored != s.length) or (s.how == ONE_WORD and s.stored != 8)
                or (codec != 0 and not 0 < s.stored < s.length)
                or (s.length > self.pool.ref.page_size and s.index != 0)):
            raise _unusable("how a page lay")
        if self.heat >= 0:
            # Once what came first would go for it, nothing more comes.
            cls: cython.int = class_of(w, s.stored)
            cost: u64 = PAGE_COST + (room_of(w, cls, s.stored) if cls >= 0 else 0)
            if s.offset == 0 and cost > self.budget:
                self.full = True
            if self.full:
                self.refused += s.offset == 0
                return 0
            self.budget -= cost if s.offset == 0 else 0
        if s.piece != s.stored or s.offset != 0:
            return self.take_piece(s, data)
        return self.whole_page(s, data, alone)

    def take_piece(self, s, data):
        """A piece of a page that is longer than a block."""
        if s.offset == 0:
            self.long = bytearray()
            self.page = s[0]
        if (self.long is None or s.index != self.page.index or s.version != self.page.version or s.how == ONE_WORD
                or s.stored != self.page.stored or s.offset != cython.cast(u64, len(self.long))
                or s.piece > s.stored - s.offset or s.how != self.page.how or s.length != self.page.length):
            self.long = None
            raise _unusable("a piece of a page that does not follow the one before")
        self.long += data[:s.piece]
        if cython.cast(u64, len(self.long)) == s.stored:
            whole: bytearray = self.long
            self.long = None
            self.whole_page(s, PyByteArray_AS_STRING(whole), True)
        return 0

    def whole_page(self, s, data, alone):
        """Put a page, or let it wait for those that go with it."""
        c: Call
        v: Value
        one: Packed
        kept: list = []
        long: Repeated = None
        if alone and self.secret != self.engine.att.w.header.secret:
            self.rekey(s, data)
        if s.notes & WITH_FORMER and self.run_count != 0 and s.index == self.run_first + self.run_count:
            return self.add_to_run(s, data)
        self.end_run()
        if (self.pool.ref.whole and not alone and not s.notes & WITH_TAIL
                and s.length <= self.pool.ref.page_size <= RUN_MAX):
            return self.add_to_run(s, data)
        aim(cython.address(c), self.oid, self.hash, s.index)
        if s.index == 0 and (alone or s.notes & WITH_TAIL or s.length > self.pool.ref.page_size):
            memset(cython.address(v), 0, cython.sizeof(Value))
            v.expires = self.expires
            v.tail = TRAILER_BYTES if s.notes & WITH_TAIL else 0
            c.ask.value = cython.address(v)
        elif s.notes & WITH_TAIL:
            raise _unusable("a page with a tail that is no value")
        c.ask.data = data
        c.ask.length = s.length
        if s.how == AS_IT_IS and s.notes & WITH_TAIL and tail_before(cython.NULL, data + s.length, s.length) > s.length:
            raise _unusable("a tail")
        if s.how == ONE_WORD and s.length > BLOCK_BYTES:
            long = repeated(data[:8], s.length)
            c.ask.data = long.at
        elif s.how == ONE_WORD:
            kept.append(self.fill(s, data))
            c.ask.data = PyBytes_AS_STRING(kept[0])
        elif s.how != AS_IT_IS:
            memset(cython.address(one), 0, cython.sizeof(Packed))
            if self.pack(cython.address(one), s, data, kept):
                c.ask.packs = cython.address(one)
            else:
                c.ask.data = PyBytes_AS_STRING(kept[0])
        return self.put(cython.address(c), 1, s.length, s.hits)

    def fill(self, s, data):
        """The bytes of a page of one word."""
        return (data[:8] * (s.length // 8 + 1))[: s.length]

    def pack(self, one, s, data, kept):
        """Let `one` say where a page lies compressed: True; or unpack it, as the last one of
        `kept`: in this arena that takes no more room."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        cls: cython.int = class_of(w, s.length)
        held: bytes = data[:s.stored]
        kept.append(held)
        if class_of(w, s.stored) == EXTENT_CLASS:
            held = framed(held)
            kept[len(kept) - 1] = held
        length: u64 = PyBytes_GET_SIZE(held)
        if length <= self.pool.ref.packed_max and (
            class_of(w, length) < cls or cls == EXTENT_CLASS and length + FRAME_UNIT <= s.length
        ):
            one.data = PyBytes_AS_STRING(held)
            one.length = length
            return True
        kept[len(kept) - 1] = self.unpacked(s.length, data[:s.stored])
        return False

    def unpacked(self, length, data):
        """A page from its compressed bytes."""
        try:
            page = self.pool.packer().codec.unpack(data, length)
        except (MemoryError, TmemError):
            raise
        except Exception:
            page = None
        if type(page) is not bytes or len(page) != length:
            raise _unusable("a page that does not decompress")
        return page

    def rekey(self, s, data):
        """Give a value of a cache the oid that its key has in this arena."""
        v: Value
        oid: u64[3]
        page: bytes
        length: u64 = s.length
        if s.index != 0 or not s.notes & WITH_TAIL or not is_key(self.oid[2]) or s.how == ONE_WORD:
            return 0
        if s.how != AS_IT_IS:
            page = self.unpacked(s.length, data[:s.stored])
            data = PyBytes_AS_STRING(page)
        memset(cython.address(v), 0, cython.sizeof(Value))
        size: u64 = tail_before(cython.address(v), data + length, length)
        if size > length or not v.has_key:
            return 0
        oid_from(data + length - size, v.key_found, self.oid[2] >> KIND_SHIFT, self.secret, oid)
        if memcmp(oid, self.oid, 24) != 0:
            return 0            # somebody's own name for it
        oid_from(data + length - size, v.key_found, self.oid[2] >> KIND_SHIFT, self.engine.att.w.header.secret, oid)
        memcpy(self.oid, oid, 24)
        self.hash = hash_oid(oid[0], oid[1], oid[2])
        return 0

    # --- pages that were put as one range ---------------------------------------------------------

    def add_to_run(self, s, data):
        """Add a page to those that are put together."""
        size: u64 = self.pool.ref.page_size
        most: u64 = min(RANGE_MAX, max(1, RUN_MAX // size))
        kept: list = []
        one: cython.pointer(Packed)
        if s.length > size:
            raise _unusable("a page that is too long")
        if self.run_count == most or self.run_length != self.run_count * size:
            self.end_run()
        if self.run is None or cython.cast(u64, len(self.run)) < most * size:
            self.run = bytearray(most * size)
        if self.run_count == 0:
            self.run_first = s.index
            self.run_length = 0
            self.run_packed = False
            self.run_heat = 0
            self.packs = bytes(most * cython.sizeof(Packed))
        to: cython.p_char = PyByteArray_AS_STRING(self.run) + self.run_count * size
        one = cython.cast(cython.pointer(Packed), PyBytes_AS_STRING(self.packs)) + self.run_count
        if s.how == ONE_WORD:
            kept.append(self.fill(s, data))
        elif s.how != AS_IT_IS and self.pack(one, s, data, kept):
            self.run_packed = True
            memcpy(to, one.data, one.length)
            one.data = to
            kept.clear()
        if kept:
            memcpy(to, PyBytes_AS_STRING(kept[0]), s.length)
        elif one.length == 0:
            memcpy(to, data, s.length)
        self.run_count += 1
        self.run_length += s.length
        self.run_heat = max(self.run_heat, s.hits)
        return 0

    def end_run(self):
        """Put what waits."""
        c: Call
        count: u64 = self.run_count
        if count == 0:
            return 0
        self.run_count = 0
        aim(cython.address(c), self.oid, self.hash, self.run_first)
        c.ask.count = count
        c.ask.data = PyByteArray_AS_STRING(self.run)
        c.ask.length = self.run_length
        if self.run_packed:
            c.ask.packs = cython.cast(cython.pointer(Packed), PyBytes_AS_STRING(self.packs))
        return self.put(cython.address(c), count, self.run_length, self.run_heat)

    def put(self, c, count, length, hits):
        """Put the pages of a call, as they are to be stored."""
        kept: list = []
        i: u64
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        d: Call
        v: Value
        if c.ask.index + count < c.ask.index + 1:
            raise _unusable("an index")
        if self.pool.ref.dedup:
            kept.append(digest(cython.address(self.pool.ref), c))
        done: cython.bint = self.pool.put_call(c)
        kept.clear()            # not before: c.ask.packs may lead into it
        if done:
            self.pages += count
            self.bytes += length
            self.put_here += count
        elif self.pool.persistent and not self.partial:
            raise ArenaFull(
                f"arena {self.engine.name!r}: there is no room for all persistent pages; give it more capacity, or "
                "restore what has room with partial=True (--partial)"
            )
        else:
            self.refused += count
            self.full = self.full or not self.pool.persistent
            return 0
        if hits == 0 or self.pool.ref.hits_max == 0:
            return 0
        # What was hit is not new: a hint, as hits are.
        memset(cython.address(v), 0, cython.sizeof(Value))
        v.with_tail = True
        self.pool.enter()
        for i in range(count):
            aim(cython.address(d), self.oid, self.hash, c.ask.index + i)
            d.ask.value = cython.address(v)
            if peek(w, cython.address(self.pool.ref), cython.address(d)) == OK:
                set_mark(w, d.found.page, min(hits, self.pool.ref.hits_max))
        self.pool.leave()
        return 0

    # --- the end ----------------------------------------------------------------------------------

    def finish(self):
        """Give the pools their names. The Restored."""
        said = self.source.said["pools"]
        evicted = 0
        count: u64
        pool: Bound
        counters = cython.cast(object, self.engine).stats()["pools"]
        names = [said[place]["name"] for place in range(len(said))]
        for place, made in enumerate(self.pools):
            if made is None or place in self.gone:
                continue
            pool = made
            evicted += counters[pool.name]["evicted"]
            pool.enter()
            for count in COUNTS:
                pool.ref.ledger[count] -= cython.cast(u64, counters[pool.name][COUNT_NAMES[count]])
            pool.leave()
        for place, made in enumerate(self.pools):
            if made is not None and place not in self.gone:
                cython.cast(object, self.engine)._name_pool(made, names[place])
                kill_point(cython.address(self.engine.att.w))
        return Restored(
            pools=sum(pool is not None for pool in self.pools) - len(self.gone), objects=self.objects,
            pages=max(0, self.pages - evicted), bytes=self.bytes, refused=self.refused + evicted,
            expired=self.expired, missing=self.missing, gone=tuple(names[place] for place in sorted(self.gone)),
            stale=tuple(name for name, pool in zip(names, self.pools, strict=True) if pool is None),
        )


COUNT_NAMES = {PUTS_OK: "puts_ok", PUTS_REFUSED: "puts_refused", PUTS_DUPLICATE: "puts_duplicate", GETS_HIT: "gets_hit",
               GETS_MISS: "gets_miss", FLUSHES: "flushes"}


seal(Restorer, "engine.restore")
