"""Owns saving: the pools of an arena into a stream, block by block.

A block is copied (verbs/copy.py), summed and written before the next one is begun; between two of
them nothing is held, signal handlers run, and other threads have their turn. With `frozen` all
that is done in a stopped world (integrity/stop.py), where no signal handler runs, and nothing here
calls what the interpreter runs.
Kill at any instruction: nothing was changed in the arena; of the file see target.py.
"""
import json
import os
import stat
import tempfile
import time

from xxhash import xxh3_64_intdigest

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.engine.far.names import SEAL_BYTES, name_of
from cython.cimports.engine.integrity.stop import resume, stop_all
from cython.cimports.engine.layout.call import AGAIN, AWAY, DESTROYED, FULL, MISS, SIZE, Call, Value
from cython.cimports.engine.layout.regions import is_live
from cython.cimports.engine.layout.stream import (
    AS_IT_IS,
    BLOCK_BYTES,
    BLOCK_GONE,
    BLOCK_MAGIC,
    BLOCK_OBJECTS,
    BLOCK_TRAILER,
    FIRST,
    LAST,
    PACKED_LZ4,
    PACKED_ZSTD,
    WITH_TAIL,
    Block,
    SavedObject,
    SavedPage,
    padded,
)
from cython.cimports.engine.layout.structs import GETS_HIT, GETS_MISS
from cython.cimports.engine.layout.words import LZ4, copied_of, flags_in, has_any_tail, packed_in, size_class
from cython.cimports.engine.member.arguments import aim
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.verbs.copy import (
    BROUGHT_MAX,
    KNOWN_STEP,
    WISHES_MAX,
    Brought,
    Copied,
    Known,
    Wish,
    brought_place,
    copy_objects,
    copy_pages,
    copy_piece,
    same_pages,
)
from cython.cimports.libc.errno import EINTR, errno
from cython.cimports.libc.stdlib import calloc, free, realloc
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.posix.unistd import write
from cython.cimports.shm.clock import now
from cython.cimports.shm.journal import kill_point
from cython.cimports.shm.kernel.system import SYNC_FILE_RANGE_WRITE, sync_file_range
from cython.cimports.shm.layout import BUSY, CORRUPT, EXTENT_CLASS, OK, Worker, u64
from cython.cimports.shm.seal import seal
from engine.api import session
from engine.errors import FarUnavailable, PoolNotFound, TmemError
from engine.pages.pam.codec import CODECS
from engine.pages.pam.packed import unframed
from engine.snapshots.head import write_head
from engine.snapshots.report import Saved
from engine.snapshots.target import open_target

LARGE_TRIES = 8             # to have an object that is larger than a block as it was at one moment
ROUNDS_MAX = cython.declare(cython.int, 1000)      # in which far pages are brought for a block: a few will do
WAITS = cython.declare(cython.int, 64)      # for who writes to the bucket of a long page all the time

PUSH_BYTES = cython.declare(u64, 8 << 20)

# What `step` does.
STEP_OBJECTS = cython.declare(cython.int, 0)
STEP_PAGES = cython.declare(cython.int, 1)
STEP_SAME = cython.declare(cython.int, 2)


def save(engine, file, pools, ephemeral, max_age, frozen):
    """Engine.save."""
    for argument, value in (("ephemeral", ephemeral), ("frozen", frozen)):
        if not isinstance(value, bool):
            raise TypeError(f"{argument}: True or False, not {type(value).__name__}")
    if max_age is not None:
        if isinstance(max_age, bool) or not isinstance(max_age, (int, float)):
            raise TypeError(f"max_age: seconds as a number, or None, not {type(max_age).__name__}")
        if not max_age >= 0:
            raise ValueError(f"max_age: 0 or more seconds, not {max_age}")
        if not ephemeral:
            raise ValueError("max_age: only ephemeral pools grow stale; say ephemeral=True to save these, too")
    chosen, skipped = _choose(engine, pools, ephemeral)
    if frozen and any(pool.far_persistent for pool in chosen):
        name = next(pool.name for pool in chosen if pool.far_persistent)
        raise ValueError(f"frozen: pages of pool {name!r} may be far, and nobody asks a far tier in a stopped world; "
                         "save without `frozen`, or name other pools")
    target = open_target(file)
    saver: Saver = Saver.__new__(Saver)
    try:
        saver.engine = engine
        saver.pools = chosen
        saver.target = target
        saver.fd = target.fd
        saver.begin(max_age, frozen)
        if not frozen:
            saver.save_all()
        elif stat.S_ISREG(os.fstat(target.fd).st_mode):
            saver.save_frozen()
        else:
            # Nobody is stopped for as long as whoever reads a pipe takes.
            with tempfile.TemporaryFile() as spool:
                saver.fd = spool.fileno()
                saver.save_frozen()
                saver.fd = target.fd
                saver.pour(spool)
        return saver.finish(skipped)
    finally:
        target.abandon()


session.give("save", save)


def _choose(engine, names, ephemeral):
    """The pools that are saved, the persistent ones first, and the names of those that cannot
    be."""
    found = engine.pools()
    if names is not None:
        if isinstance(names, (str, bytes)) or not all(isinstance(name, str) for name in names):
            raise TypeError("pools: None, or a list of the names of pools")
        there = {pool.name: pool for pool in found}
        for name in names:
            if name not in there:
                raise PoolNotFound(f"pools: arena {engine.name!r} has no pool {name!r}")
            if not there[name].persistent and not ephemeral:
                raise ValueError(f"pools: {name!r} is ephemeral; such a pool is saved with ephemeral=True alone")
            if there[name].pam not in ("raw", *CODECS):
                raise ValueError(f"pools: the pages of {name!r} are those of the back end {there[name].pam!r}, which "
                                 "alone can save them")
        found = [there[name] for name in dict.fromkeys(names)]
    found = [pool for pool in found if pool.persistent or ephemeral]
    ours = [pool for pool in found if pool.pam in ("raw", *CODECS)]
    return sorted(ours, key=lambda pool: not pool.persistent), tuple(pool.name for pool in found if pool not in ours)


def _described(pool, counters):
    """What a head says of a pool."""
    return {
        "name": pool.name, "persistent": pool.persistent, "shared": pool.shared, "dedup": pool.dedup,
        "whole": pool.whole, "page_size": pool.page_size, "pam": pool.pam, "policy": pool.policy, "cap": pool.cap,
        "cap_bytes": pool.cap_bytes, "client": pool.client, "allow": None if pool.allow is None else list(pool.allow),
        "bytes": max(0, counters.get(pool.name, {}).get("bytes_used", 0)),
    }


@cython.cclass
class Saver:
    """A save under way."""

    def __dealloc__(self):
        free(self.k.known)
        free(self.table)
        free(self.k.wishes)

    def begin(self, max_age, frozen):
        """Write the head."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        said: dict
        counters = cython.cast(object, self.engine).stats()["pools"]
        geometry = self.engine.att.arena.geometry
        wall = time.time_ns()
        self.epoch = self.engine.att.epoch
        self.k.ahead = cython.cast(u64, wall) - now(w)
        said = {
            "saved": wall, "frozen": frozen, "max_age": max_age, "page_size": self.engine.page_size,
            "capacity": cython.cast(object, self.engine).capacity, "nonce": geometry["nonce"],
            "secret": geometry["secret"], "pools": [_described(pool, counters) for pool in self.pools],
        }
        head, self.id = write_head(said)
        self.gone = []
        self.buffer = PyBytes_FromStringAndSize(cython.NULL, cython.sizeof(Block) + BLOCK_BYTES)
        self.block = PyBytes_AS_STRING(self.buffer)
        self.seen = memoryview(self.buffer)
        self.k.out = self.block + cython.sizeof(Block)
        self.k.room = BLOCK_BYTES
        self.write(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        return 0

    def write(self, data, count):
        """Write all of it; OSError."""
        done: cython.Py_ssize_t
        problem: cython.int = 0
        left: u64 = count
        self.engine.refuse_fork(self.epoch)
        kill_point(cython.address(self.engine.att.w))
        with cython.nogil:
            while left != 0:
                done = write(self.fd, data, left)
                if done < 0:
                    problem = errno
                    if problem == EINTR:
                        problem = 0
                        continue
                    break
                data += done
                left -= done
        if problem != 0:
            raise OSError(problem, os.strerror(problem), getattr(self.target, "temporary", None))
        self.size += count
        if self.size - self.pushed >= PUSH_BYTES:
            # The disk begins with it now, and not when all is waited for. Where it cannot be, it is
            # not.
            sync_file_range(self.fd, self.pushed, self.size - self.pushed, SYNC_FILE_RANGE_WRITE)
            self.pushed = self.size
        kill_point(cython.address(self.engine.att.w))
        return 0

    def put_block(self, kind, length):
        """Write the block, with what it begins with."""
        head: cython.pointer(Block) = cython.cast(cython.pointer(Block), self.block)
        memset(head, 0, cython.sizeof(Block))
        head.magic = BLOCK_MAGIC
        head.number = self.number
        head.kind = kind
        head.length = length
        head.pool = self.place
        head.heat = self.k.heat
        head.sum = xxh3_64_intdigest(self.seen[16:cython.sizeof(Block) + length], self.id)
        self.write(self.block, cython.sizeof(Block) + length)
        self.number += 1
        self.k.used = 0
        self.k.heat = 0
        self.forget_brought()
        return 0

    def flush(self):
        """Write what is in the block, if anything is."""
        if self.k.used != 0:
            self.put_block(BLOCK_OBJECTS, self.k.used)
        return 0

    def step(self, pool, c, what):
        """One call of a verb, in the turn of this thread: its status, no BUSY among them. If far
        pages are wanted, they are brought, and it is called again from where it was."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        before: Copied
        rounds: cython.int = 0
        status: cython.int = BUSY
        if not self.k.still:
            pool.enter()
        try:
            while status == BUSY:
                before = self.k
                with cython.nogil:
                    if what == STEP_OBJECTS:
                        status = copy_objects(w, cython.address(pool.ref), cython.address(self.k))
                    elif what == STEP_PAGES:
                        status = copy_pages(w, cython.address(pool.ref), c, cython.address(self.k))
                    else:
                        status = same_pages(w, cython.address(pool.ref), c, cython.address(self.k))
                if status == BUSY and self.k.still:
                    raise TmemError(
                        f"arena {self.engine.name!r}: a bucket of pool {pool.name!r} is locked in a stopped world; "
                        "run `tmem check`"
                    )
                if self.k.wish_count != 0 and status != DESTROYED and status != CORRUPT:
                    rounds += 1
                    if rounds > ROUNDS_MAX:
                        raise FarUnavailable(f"pool {pool.name!r}: far pages changed {ROUNDS_MAX} times while the far "
                                             "tier was asked for them; save again")
                    self.bring(pool)
                    self.k = before
                    status = BUSY
                elif status == BUSY:
                    pool.pause()
            if status not in (OK, AGAIN, FULL, SIZE, MISS, DESTROYED):
                pool.fail(status)
        finally:
            if not self.k.still:
                pool.leave()
        return status

    def forget_brought(self):
        """What was brought is in a block that is written, or wanted no more."""
        if self.held:
            self.held.clear()
            memset(self.table, 0, BROUGHT_MAX * cython.sizeof(Brought))
        return 0

    def bring(self, pool):
        """Have the far pages that are wanted, in one batch, between enter and leave. What is
        another page by now is not wanted any more, or will be again. FarUnavailable, FarLost."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        c: Call
        place: cython.pointer(Brought)
        data: bytes
        names: list = []
        tokens: list = []
        lengths: list = []
        i: u64
        count: u64 = self.k.wish_count
        for i in range(count):
            names.append(name_of(w.header.nonce, self.k.wishes[i].gen))
            tokens.append(self.k.wishes[i].token)
            lengths.append(copied_of(self.k.wishes[i].shape) + SEAL_BYTES)
        if len(self.held) + count > BROUGHT_MAX // 2:
            self.forget_brought()
        for i, value in enumerate(pool.ask_tier(names, tokens, lengths)):
            aim(cython.address(c), self.k.wishes[i].oid,
                hash_oid(self.k.wishes[i].oid[0], self.k.wishes[i].oid[1], self.k.wishes[i].oid[2]),
                self.k.wishes[i].index)
            data = pool.opened(cython.address(c), self.k.wishes[i].index, self.k.wishes[i].gen, self.k.wishes[i].shape,
                               value)
            if data is None:
                pool.is_none(cython.address(c), self.k.wishes[i].gen, value)
                continue
            self.held.append(data)
            place = brought_place(self.table, self.k.wishes[i].gen)
            place.gen = self.k.wishes[i].gen
            place.length = PyBytes_GET_SIZE(data)
            place.data = PyBytes_AS_STRING(data)
        return 0

    def begin_far(self, pool):
        """Have room for what is far of a pool, if it keeps that; else it is left out."""
        self.k.wish_count = 0
        self.k.brought = cython.NULL
        if not pool.keeps_far:
            return 0
        if self.table == cython.NULL:
            self.held = []
            self.table = cython.cast(cython.pointer(Brought), calloc(BROUGHT_MAX, cython.sizeof(Brought)))
            self.k.wishes = cython.cast(cython.pointer(Wish), calloc(WISHES_MAX, cython.sizeof(Wish)))
            if self.table == cython.NULL or self.k.wishes == cython.NULL:
                raise MemoryError
        self.k.brought = self.table
        return 0

    def save_pool(self, pool):
        """All objects of a pool."""
        status: cython.int = AGAIN
        self.begin_far(pool)
        self.k.bucket = 0
        self.k.inside = False
        while status != OK:
            status = DESTROYED if not self.lives(pool) else self.step(pool, cython.NULL, STEP_OBJECTS)
            if status == SIZE:
                status = self.save_large(pool)
            if status == DESTROYED:
                self.k.used = 0
                self.put_block(BLOCK_GONE, 0)
                self.gone.append(pool.name)
                return 0
            if status == FULL or status == OK:
                self.flush()
        return 0

    def lives(self, pool):
        """False: it was destroyed, and entering it would say so."""
        return is_live(pool.ref.record, pool.ref.gen)

    # --- what is larger than a block --------------------------------------------------------------

    def save_large(self, pool):
        """The object k.large, which no block has room for. AGAIN, or DESTROYED."""
        c: Call
        v: Value
        tries: cython.int = 0
        status: cython.int = AGAIN
        objects: u64 = self.k.objects
        pages: u64 = self.k.pages
        bytes: u64 = self.k.bytes
        memset(cython.address(v), 0, cython.sizeof(Value))
        v.with_tail = True
        hash: u64 = hash_oid(self.k.large[0], self.k.large[1], self.k.large[2])
        while status == AGAIN:
            tries += 1
            self.k.objects = objects
            self.k.pages = pages
            self.k.bytes = bytes
            aim(cython.address(c), self.k.large, hash, 0)
            c.ask.value = cython.address(v)
            status = self.try_large(pool, cython.address(c), tries >= LARGE_TRIES)
        if status == DESTROYED:
            return DESTROYED
        self.k.after[0] = self.k.large[0]
        self.k.after[1] = self.k.large[1]
        self.k.after[2] = self.k.large[2]
        self.k.inside = True
        return AGAIN

    def try_large(self, pool, c, anyhow):
        """The pages of an object, and last whether they still are what they were: OK; AGAIN: they
        are not, and the object is to be begun anew, unless it is taken `anyhow`; MISS: there is
        none any more; DESTROYED."""
        status: cython.int = FULL
        start: u64
        self.k.index = 0
        self.k.known_count = 0
        first: cython.bint = True
        while status == FULL:
            if self.known_room < self.k.known_count + KNOWN_STEP:
                self.known_room = 2 * (self.k.known_count + KNOWN_STEP)
                self.k.known = cython.cast(
                    cython.pointer(Known), realloc(self.k.known, self.known_room * cython.sizeof(Known)))
                if self.k.known == cython.NULL:
                    self.known_room = 0
                    raise MemoryError
            self.begin_object(c, first)
            start = self.k.pages
            status = self.step(pool, c, STEP_PAGES)
            if status == FULL and self.k.pages == start:
                self.k.used = 0
                status = self.save_long(pool, c)
            elif status == FULL or status == OK:
                self.end_object(self.k.pages - start, False)
            first = False
        self.k.used = 0
        if status == MISS:
            # It went, or the arena lost it, in the middle: what came of it is void.
            self.drop_object(c)
            return MISS
        if status != OK:
            return status
        status = self.step(pool, c, STEP_SAME)
        if status == DESTROYED:
            return DESTROYED
        if status == MISS and not anyhow:
            return AGAIN
        self.torn += status == MISS
        self.begin_object(c, False)
        self.end_object(0, True)
        self.k.objects += 1
        return OK

    def drop_object(self, c):
        """Say that an object begins, and has no pages."""
        self.begin_object(c, True)
        self.end_object(0, True)
        return 0

    def begin_object(self, c, first):
        """Leave room for what is said of an object in the empty block."""
        head: cython.pointer(SavedObject) = cython.cast(cython.pointer(SavedObject), self.k.out)
        memset(head, 0, cython.sizeof(SavedObject))
        head.oid[0] = c.ask.oid[0]
        head.oid[1] = c.ask.oid[1]
        head.oid[2] = c.ask.oid[2]
        head.notes = FIRST if first else 0
        self.k.used = cython.sizeof(SavedObject)
        return 0

    def end_object(self, pages, last):
        """Say the rest, and write the block."""
        head: cython.pointer(SavedObject) = cython.cast(cython.pointer(SavedObject), self.k.out)
        head.expires = self.k.expires + self.k.ahead if self.k.expires != 0 else 0
        head.pages = pages
        head.notes |= LAST if last else 0
        self.put_block(BLOCK_OBJECTS, self.k.used)
        return 0

    def save_long(self, pool, c):
        """The page of k.index, which no block has room for, in pieces. FULL: the next one; AGAIN:
        it has changed meanwhile; MISS, DESTROYED."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        page: cython.pointer(SavedPage) = cython.cast(
            cython.pointer(SavedPage), self.k.out + cython.sizeof(SavedObject))
        to: cython.p_char = cython.cast(cython.p_char, page) + cython.sizeof(SavedPage)
        most: u64 = BLOCK_BYTES - cython.sizeof(SavedObject) - cython.sizeof(SavedPage)
        whole: bytes = None
        offset: u64 = 0
        count: u64
        waits: cython.int = 0
        status: cython.int = OK
        while offset < self.k.length:
            count = self.k.length - offset if self.k.length - offset < most else most
            if whole is None:
                if not self.k.still:
                    pool.enter()
                with cython.nogil:
                    status = copy_piece(w, cython.address(pool.ref), c, cython.address(self.k), offset, count, to)
                if not self.k.still:
                    pool.leave()
            else:
                memcpy(to, PyBytes_AS_STRING(whole) + offset, count)
            if status == AWAY:
                waits = WAITS           # it is far: a get has it
                status = BUSY
            if status == BUSY:
                waits += 1
                if self.k.still:
                    raise TmemError(f"arena {self.engine.name!r}: it changes in a stopped world; run `tmem check`")
                if waits < WAITS:
                    continue
                # Under the lock, and all of it at once.
                whole = self.whole_page(pool, c)
                if whole is None:
                    return AGAIN
                self.k.length = PyBytes_GET_SIZE(whole)
                offset = 0
                status = OK
                continue
            if status != OK:
                return AGAIN if status == MISS else status
            self.begin_object(c, self.k.known_count == 0 and offset == 0)
            memset(page, 0, cython.sizeof(SavedPage))
            page.index = self.k.index
            page.version = self.k.gen
            page.length = cython.cast(cython.uint, self.k.shape)
            page.stored = self.k.length
            page.offset = offset
            page.piece = count
            page.how = AS_IT_IS
            if packed_in(self.k.shape) != 0:
                page.how = PACKED_LZ4 if flags_in(self.k.shape) & LZ4 else PACKED_ZSTD
            page.notes = (WITH_TAIL if has_any_tail(self.k.shape) else 0) | self.k.former
            page.hits = self.k.hits
            self.k.heat = self.k.hits
            memset(to + count, 0, padded(count) - count)
            self.k.used = cython.sizeof(SavedObject) + cython.sizeof(SavedPage) + padded(count)
            self.end_object(1, False)
            offset += count
        self.k.known[self.k.known_count].index = self.k.index
        self.k.known[self.k.known_count].gen = self.k.gen
        self.k.known_count += 1
        self.k.pages += 1
        self.k.bytes += cython.cast(cython.uint, self.k.shape)
        self.k.index += 1
        return FULL if self.k.index != 0 else OK

    def whole_page(self, pool, c):
        """The stored bytes of the page of k.index as a get has them, or None: it is another one by
        now. No hit is counted, but for those of other threads that are lost meanwhile."""
        most: u64 = pool.ref.hits_max
        data: bytes = None
        c.ask.index = self.k.index
        c.did.out = cython.NULL
        c.did.have = 0
        pool.enter()
        try:
            pool.ref.hits_max = 0
            data = pool.get_bytes(c)
            pool.ref.ledger[GETS_MISS if data is None else GETS_HIT] -= 1
        finally:
            pool.ref.hits_max = most
            pool.leave()
        if data is None or c.found.gen != self.k.gen:
            return None
        return unframed(data) if packed_in(c.found.shape) != 0 and size_class(c.found.shape) == EXTENT_CLASS else data

    # --- all of it --------------------------------------------------------------------------------

    def save_all(self):
        for place, pool in enumerate(self.pools):
            self.place = place
            self.save_pool(pool)
        return 0

    def save_frozen(self):
        """All pools as they are at one moment."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        pool: Bound
        epoch: cython.int
        for pool in self.pools:
            pool.enter()            # bound before, since nothing may wait in a stopped world
            pool.leave()
        self.engine.recover_dead()
        self.engine.att.enter()
        epoch = self.engine.att.epoch
        try:
            stop_all(self.engine, False)
            self.k.still = True
            self.save_all()
        finally:
            self.k.still = False
            if self.engine.att.is_mine() and self.engine.att.epoch == epoch:
                resume(w)
                w.fault = 0
            self.engine.att.leave()
        return 0

    def pour(self, spool):
        """Write what was written to a file without a name."""
        data: bytes
        spool.seek(0)
        while data := spool.read(BLOCK_BYTES):
            self.size -= PyBytes_GET_SIZE(data)
            self.write(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return 0

    def finish(self, skipped):
        """The trailer, and the name. The Saved."""
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        text: bytes
        report = Saved(
            pools=len(self.pools) - len(self.gone), objects=self.k.objects, pages=self.k.pages, bytes=self.k.bytes,
            torn=self.torn, skipped=skipped, gone=tuple(self.gone),
        )
        text = json.dumps({"objects": report.objects, "pages": report.pages, "bytes": report.bytes,
                           "torn": report.torn}).encode()
        memcpy(self.k.out, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        self.put_block(BLOCK_TRAILER, PyBytes_GET_SIZE(text))
        self.target.sync()
        kill_point(w)
        self.target.rename()
        kill_point(w)
        self.target.sync_folder()
        kill_point(w)
        return Saved(**{**vars(report), "size": self.size})


seal(Saver, "Engine.save")
