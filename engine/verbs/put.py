"""Owns the long way of a put: reserve and copy its pages, link them, retire what they replace. Read
this verb first; docs/walk-of-a-put.md names the steps. What all verbs share is in section.py.

Kill at any instruction: what was staged hangs on the worker's slot; the linking of all pages is one
transaction.
"""
import cython
import cython.cimports.engine.tree.objnode as objnode
import cython.cimports.engine.tree.rbtree as rbtree
from cython.cimports.engine.eviction.admit import caps_allow, is_capped
from cython.cimports.engine.eviction.room import make_room
from cython.cimports.engine.eviction.window import make_window
from cython.cimports.engine.layout.call import (
    AGAIN,
    CONFLICT,
    DESTROYED,
    MISS,
    REFUSED,
    Call,
    PoolRef,
    has_tail,
    in_parts,
    is_packed,
    put_bytes,
    put_copy,
    put_length,
    put_shape,
)
from cython.cimports.engine.layout.regions import (
    chunk_bytes,
    epoch_of,
    expiry_of,
    is_frozen,
    is_lean,
    is_told,
    next_gen,
    nodes_of,
    obj_at,
    obj_class,
    obj_count,
    obj_sentinel,
    pages_of,
    pampd_at,
    shard_of,
    stem_of,
)
from cython.cimports.engine.layout.structs import (
    GAUGE_OBJECTS,
    GAUGE_OBJNODES,
    GAUGE_PAGES,
    GEO_SHARDS,
    NODES_MAX,
    OBJNODE_CLASS,
    PAMPD_CLASS,
    PAMPD_SENTINEL,
    ROOT_PENDING,
    ROOT_STAGED,
    TWIN_BYTES_MIN,
    Bucket,
    Obj,
    Pampd,
    TwinBucket,
)
from cython.cimports.engine.layout.words import (
    QUEUE_PENDING,
    SAME,
    TAIL,
    WITH_PRIOR,
    class_in,
    flags_of,
    has_chunk,
    is_far,
    length_of,
    link_to_page,
    page_hash,
    pool_mark,
    queue_word,
    same_filled,
    shape_of,
    shard_in,
    stored_bytes,
    target_of,
    with_flags,
)
from cython.cimports.engine.pages.pam.base import PamOps
from cython.cimports.engine.pages.pins import is_viewed
from cython.cimports.engine.pages.reclaim import drop_staged, gauge, retire
from cython.cimports.engine.pages.twins import share
from cython.cimports.engine.tree.hostops import HostOps
from cython.cimports.engine.tree.lookaside import find_obj, remember, top_of
from cython.cimports.engine.tree.stem import give_stem
from cython.cimports.engine.tree.unlink import bury, bury_dead, weigh
from cython.cimports.engine.verbs.section import (
    REAP_BUDGET,
    alive,
    bucket_of,
    drop_empty_obj,
    drop_page,
    end_section,
    find_page,
    finish,
    forget_told,
)
from cython.cimports.engine.verbs.value import allowed, date
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.shm.atomics import load, set
from cython.cimports.shm.extent import room_of
from cython.cimports.shm.journal import conclude, redo_copy, rollback, savepoint, store
from cython.cimports.shm.layout import BUSY, CORRUPT, EXTENT_CLASS, NOMEM, OK, Worker, set_mark, u64
from cython.cimports.shm.lock import lock_try, unlock
from cython.cimports.shm.memory import chunk_at
from cython.cimports.shm.segments import class_of
from cython.cimports.shm.slab import ensure, pop


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _stage(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), i: u64, larger: cython.bint,
           pam: PamOps) -> cython.int:
    """Put steps 1 and 2 for page i: reserve a pampd and a chunk (a `larger` one than it needs),
    copy the page. OK with it on the staged list, BUSY or NOMEM."""
    page: Pampd
    d: cython.pointer(Pampd)
    off: u64
    stored: u64
    twins: cython.pointer(TwinBucket) = cython.NULL
    data: cython.p_const_char = put_bytes(c, i, p.page_size, cython.address(stored))
    status: cython.int = ensure(w, PAMPD_CLASS, 1)
    if status != OK:
        return status
    memset(cython.address(page), 0, cython.sizeof(Pampd))
    if stored == 0 and not pam.foreign:
        page.shape = shape_of(0, 0, SAME)       # no bytes: whatever the word is
    elif p.evictable and not is_packed(c, i) and not in_parts(c) and not has_tail(c) and same_filled(data, stored):
        # Only where pages are evicted: over a persistent page another can always be put, since it
        # has a chunk.
        memcpy(cython.address(page.data), data, 8)
        page.shape = shape_of(stored, 0, SAME)
    elif p.dedup and c.ask.packs != cython.NULL and stored >= TWIN_BYTES_MIN and not has_tail(c):
        status = share(w, p, c, i, cython.address(page), pam, cython.address(twins))
    else:
        status = MISS
    if status == MISS:
        status = (pam.prepare_larger(w, cython.address(page), data, stored, p.page_size) if larger
                  else pam.prepare(w, cython.address(page), data, stored))
        if status == OK and data == cython.NULL:
            put_copy(c, i, p.page_size, w.base + page.data)
        if status == OK and pam.foreign:
            page.shape = with_flags(page.shape, TAIL if has_tail(c) else 0)
        elif status == OK:
            page.shape = put_shape(p, c, i, class_in(cython.address(page)))
    if status != OK:
        return status
    off = pop(w, PAMPD_CLASS)
    if off == 0:
        rollback(w, 0)
        status = CORRUPT
    else:
        d = cython.cast(cython.pointer(Pampd), chunk_at(w, off))
        d[0] = page
        d.gen = next_gen(w)
        d.sentinel = PAMPD_SENTINEL
        d.link = w.slot.client[ROOT_STAGED]
        d.obj = 0
        d.index = c.ask.index + i
        d.queue = 0
        store(w, cython.address(w.slot.client[ROOT_STAGED]), off)
        status = conclude(w)
    if twins != cython.NULL:
        unlock(w, cython.address(twins.lock))
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _needs(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call)) -> u64:
    """Bytes of the chunks that the pages of a call take."""
    i: u64
    need: u64 = 0
    data: cython.p_const_char
    stored: u64
    for i in range(c.ask.count):
        data = put_bytes(c, i, p.page_size, cython.address(stored))
        # Of a page that is yet to be written nothing is known but its length.
        if stored != 0 and class_of(w, stored) >= 0 and not (
            p.evictable and data != cython.NULL and not is_packed(c, i) and not has_tail(c)
            and same_filled(data, stored)
        ):
            need += room_of(w, class_of(w, stored), stored)
    return need


def could_fit(w, p, c):
    """False if the pages of a range would not fit though all went that may, or if they are one
    value that is larger than a cap: then none goes for it."""
    if p.dedup:
        return True
    if p.whole and is_capped(w, p.idx) and not caps_allow(w, p.idx, c.ask.count, _needs(w, p, c)):
        return False
    return (
        c.ask.length < c.ask.room // 2
        or _needs(w, p, c) + c.ask.count * w.class_bytes[PAMPD_CLASS] <= c.ask.room
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _shard_for(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call)) -> u64:
    """The shard that the pages of a put come into: of a value all into one, and of large values
    into few, since a shard that has room for few of them chooses badly."""
    shards: u64 = w.client_geometry[GEO_SHARDS]
    used: u64 = shards
    hash: u64 = page_hash(c.ask.hash, c.ask.index, p.idx)
    if p.whole and c.ask.count > 1:
        while used > 1 and (32 * c.ask.length * used) >> w.seg_shift > w.seg_total:
            used //= 2
    return (hash >> 58 & (used - 1)) * (shards // used)


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _is_for_lean(c: cython.pointer(Call), pam: PamOps, host: HostOps) -> cython.bint:
    """True if page 0 is all that a put is of: then an obj without a stem does."""
    return c.ask.count == 1 and c.ask.index == 0 and not pam.foreign and not host.careful


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _reserve(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), pam: PamOps,
             host: HostOps) -> cython.int:
    """Put steps 1 and 2 for all pages of the call, last page first. c.did.refuse is set when memory
    is short."""
    status: cython.int
    cls: cython.int
    i: u64
    data: cython.p_const_char
    out: cython.p_char
    stored: u64
    c.did.refuse = False
    c.did.bounce = False
    c.did.exhausted = False
    c.did.shard = _shard_for(w, p, c)
    if c.ask.room != 0 and not pam.foreign and not could_fit(w, p, c):
        c.did.refuse = True
        return OK
    if w.slot.client[ROOT_STAGED] == 0:
        c.did.staged = 0        # a repair has emptied the list meanwhile
    if c.did.staged == 0:
        drop_staged(w)      # of a put that an exception ended
    while c.did.staged < c.ask.count:
        i = c.ask.count - 1 - c.did.staged
        data = put_bytes(c, i, p.page_size, cython.address(stored))
        status = _stage(w, p, c, i, False, pam)
        if status == NOMEM:
            status = lacking(w, p, c, stored, pam, host)
            if status == OK:
                continue
        if status == NOMEM and p.codec != 0:
            # Pages of all lengths leave chunks free in every class: better part of one is lost than
            # a page.
            status = _stage(w, p, c, i, True, pam)
        if status == NOMEM:
            c.did.refuse = True
            if c.ask.count == 1 and not pam.foreign and 0 < stored <= w.bounce_bytes:
                # A page over a page needs no new chunk: let the new one wait in the bounce page.
                out = w.base + w.bounces_off + w.slot_idx * w.bounce_bytes
                if is_packed(c, i):
                    memcpy(out, data, stored)
                else:
                    put_copy(c, i, p.page_size, out)
                c.did.bounce = True
            return OK
        if status != OK:
            return status
        c.did.staged += 1
    cls = obj_class(_is_for_lean(c, pam, host))
    status = ensure(w, cls, 1)
    if status == NOMEM:
        status = make_room(w, c.did.shard, cls, 1, host)
    if status == OK:
        status = ensure(w, OBJNODE_CLASS, c.did.nodes_wanted)
        if status == NOMEM:
            status = make_room(w, c.did.shard, OBJNODE_CLASS, c.did.nodes_wanted, host)
    if status == NOMEM:
        c.did.exhausted = True
        status = OK
    return status


def lacking(w, p, c, length, pam, host):
    """Make room for whichever of a page's two chunks there is no memory for."""
    descriptors: u64 = 2 if p.dedup else 1      # a page that is the first with its content needs one for its twin
    status: cython.int = ensure(w, PAMPD_CLASS, descriptors)
    short: u64 = 0 if pam.foreign or length == 0 else class_of(w, length) + 1
    if short != 0 and short != EXTENT_CLASS + 1 and load(cython.address(w.depot.short_class)) != short:
        set(cython.address(w.depot.short_class), short)
    if status == NOMEM:
        return make_room(w, c.did.shard, PAMPD_CLASS, descriptors, host)
    if status != OK or pam.foreign or length == 0 or class_of(w, length) < 0:
        return NOMEM if status == OK else status
    if class_of(w, length) == EXTENT_CLASS:
        return make_window(w, c.did.shard, length, host)
    return make_room(w, c.did.shard, class_of(w, length), 1, host)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _over(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call),
          b: cython.pointer(Bucket)) -> cython.bint:
    """The put of last resort: copy the bounce page over the old page's chunk, if that is large
    enough and nobody has a view on it."""
    obj_off: u64
    data: u64
    stored: u64
    d: cython.pointer(Pampd) = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
    put_bytes(c, 0, p.page_size, cython.address(stored))
    if d != cython.NULL and c.ask.value != cython.NULL and (
        pages_of(obj_at(w, obj_off)) != 1 or not allowed(w, p, c, obj_off)
    ):
        return False
    if (d == cython.NULL or not has_chunk(d) or class_in(d) >= EXTENT_CLASS or w.class_bytes[class_in(d)] < stored
            or is_viewed(w, d)):
        return False
    data = d.data
    chunk_at(w, data)
    chunk_at(w, data + ((stored - 1) & ~cython.cast(u64, 63)))
    weigh(w, p.idx, obj_off, c.ask.length - length_of(d), 0, stored - stored_bytes(d))
    store(w, cython.address(d.shape), put_shape(p, c, 0, class_in(d)))
    store(w, cython.address(d.gen), next_gen(w))
    if c.ask.value != cython.NULL:
        date(w, p, b, obj_off, c.ask.value.expires)
    if w.fault != 0:
        return False
    redo_copy(w, w.bounces_off + w.slot_idx * w.bounce_bytes, data, stored)
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _displace(w: cython.pointer(Worker), c: cython.pointer(Call), obj_off: u64, old: u64, new: u64) -> u64:
    """Retire a far page, and let another have its place in the tree: whether it came with the page
    before, as a bit of a queue word. A descriptor that is far stays so, in the queue of those,
    which it leaves when it is given back."""
    o: cython.pointer(Pampd) = pampd_at(w, old)
    d: cython.pointer(Pampd) = pampd_at(w, new)
    at: cython.pointer(u64) = objnode.link_word(w, obj_at(w, obj_off), d.index, 0)
    prior: u64 = load(cython.address(o.queue)) & WITH_PRIOR()
    c.did.grew = True
    if at != cython.NULL and w.fault == 0:
        store(w, at, link_to_page(w, new, d.data, flags_of(d)))
    retire(w, old)
    return prior


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _link_page(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), obj_off: u64,
               i: u64, replaced: cython.pointer(u64), shard: cython.pointer(u64), pam: PamOps,
               host: HostOps) -> cython.int:
    """Put step 5 for page i: offer it to the PAM, link it from the tree, take it off the staged
    list; retire and count in `replaced` the page that had its place. `shard`: that of the page
    before, and then of this one."""
    old: u64
    data: u64
    shape: u64
    word: u64
    o: cython.pointer(Pampd)
    prior: u64 = 0
    off: u64 = w.slot.client[ROOT_STAGED]
    d: cython.pointer(Pampd) = pampd_at(w, off)
    status: cython.int
    if w.fault != 0:
        return CORRUPT
    if pam.foreign:
        # The length is the caller's, not what the arena says: it is how much of the caller's buffer
        # is read.
        status = pam.create(p.idx, c.ask.oid, d, c.ask.data + i * p.page_size, put_length(c, i, p.page_size))
        if status != OK:
            return status
        c.did.created = i + 1
    status = objnode.insert(w, obj_off, d.index, link_to_page(w, off, d.data, flags_of(d)), cython.address(old), host)
    if status != OK:
        return status
    asked: u64 = length_of(d)
    used: u64 = chunk_bytes(w, d)
    stored: u64 = stored_bytes(d)
    store(w, cython.address(w.slot.client[ROOT_STAGED]), d.link)
    if old != 0 and is_far(pampd_at(w, old).shape):
        asked -= length_of(pampd_at(w, old))
        prior = _displace(w, c, obj_off, old, off)
        replaced[0] += 1
        old = 0
    if old != 0:
        # The descriptor that is there gets the new bytes, and keeps its place in its queue; the
        # staged one leaves with the old.
        o = pampd_at(w, old)
        asked -= length_of(o)
        used -= chunk_bytes(w, o)
        stored -= stored_bytes(o)
        c.did.grew = c.did.grew or 0 < used < cython.cast(u64, 1) << 63
        data = o.data
        shape = o.shape
        store(w, cython.address(o.data), d.data)
        store(w, cython.address(o.shape), d.shape)
        store(w, cython.address(o.gen), d.gen)
        store(w, cython.address(d.data), data)
        store(w, cython.address(d.shape), shape)
        shard[0] = shard_in(load(cython.address(o.queue)))
        retire(w, off)
        replaced[0] += 1
    else:
        store(w, cython.address(d.obj), obj_off)
        if pam.foreign:
            store(w, cython.address(d.queue), pool_mark(p.idx, p.gen))
        elif p.queued:
            set_mark(w, off, 0)         # a late one of the chunk's last page may still come: a hit too many
            if not p.whole:
                word = queue_word(0, shard_of(w, page_hash(c.ask.hash, d.index, p.idx)), QUEUE_PENDING, p.idx)
            elif i == 0:
                word = queue_word(0, c.did.shard, QUEUE_PENDING, p.idx)
            else:
                # Where the one before is, which may have been there for long.
                word = queue_word(i << 6, shard[0], QUEUE_PENDING, p.idx) | WITH_PRIOR()
            shard[0] = shard_in(word)
            store(w, cython.address(d.queue), word | prior)
            store(w, cython.address(d.link), w.slot.client[ROOT_PENDING])
            store(w, cython.address(w.slot.client[ROOT_PENDING]), off)
    weigh(w, p.idx, obj_off, asked, used, stored)
    return OK


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _with_stem(w: cython.pointer(Worker), c: cython.pointer(Call), b: cython.pointer(Bucket), obj_off: u64,
               pam: PamOps, host: HostOps) -> u64:
    """The obj that the pages of a call can hang on, in the place of a lean one if it has to be; 0:
    refused."""
    if not is_lean(obj_at(w, obj_off)) or _is_for_lean(c, pam, host):
        return obj_off
    c.found.obj = give_stem(w, b, obj_off)
    return c.found.obj


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _link_pages(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), obj_off: u64,
                replaced: cython.pointer(u64), pam: PamOps, host: HostOps) -> cython.int:
    """Put step 5 for all pages. OK, REFUSED or what a back end answers; faults."""
    i: u64
    shard: u64 = 0
    status: cython.int = OK
    for i in range(c.ask.count):
        if status == OK and w.fault == 0:
            status = _link_page(w, p, c, obj_off, i, replaced, cython.address(shard), pam, host)
    return status


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _new_obj(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call),
             b: cython.pointer(Bucket), known: cython.bint, pam: PamOps, host: HostOps) -> u64:
    """Put step 4: an obj for an oid that has none. Its offset, or 0: refused. `known`: to the back
    end it is the one that was there before."""
    lean: cython.bint = _is_for_lean(c, pam, host)
    off: u64 = host.obj_alloc(w, p.idx, obj_class(lean))
    o: cython.pointer(Obj)
    if off == 0:
        return 0
    o = cython.cast(cython.pointer(Obj), chunk_at(w, off))
    memset(o, 0, w.class_bytes[obj_class(lean)])
    o.sentinel = obj_sentinel(lean, p.idx, epoch_of(p.record))
    o.oid[0] = c.ask.oid[0]
    o.oid[1] = c.ask.oid[1]
    o.oid[2] = c.ask.oid[2]
    if pam.foreign:
        stem_of(o).nodes = 1
    rbtree.insert(w, b, off)
    gauge(w, p.idx, GAUGE_OBJECTS, obj_count(lean))
    if pam.foreign and not known:
        pam.new_obj(p.idx, c.ask.oid)
    return off


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _clear(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), b: cython.pointer(Bucket),
           obj_off: u64, swap: cython.bint, known: cython.pointer(u64), pam: PamOps, host: HostOps) -> u64:
    """Put step 3: take out what must not be there beside the new pages. The obj that they come
    into, or 0: a new one; `known`: the one that was there, if a back end knows of it, or 0.
    Faults."""
    i: u64
    buried: u64 = c.found.dead
    known[0] = 0
    if c.ask.value != cython.NULL and obj_off != 0 and (
        pages_of(obj_at(w, obj_off)) != 1 or objnode.lookup(w, obj_at(w, obj_off), 0) == 0
    ):
        # A value is all there is: what has other pages goes with them.
        buried = obj_off
        obj_off = 0
        c.did.duplicate = True
    if buried != 0:
        if pam.foreign:
            # Before there is another under the handle; the others are given back with the obj.
            drop_page(w, p, c, buried, c.ask.index, False, pam, host)
            known[0] = buried if is_told(obj_at(w, buried)) else 0
        if buried == c.found.dead:
            bury_dead(w, p.record, b, buried)
        else:
            bury(w, b, buried)
    if obj_off == 0:
        return 0
    for i in range(0 if swap else c.ask.count):
        if drop_page(w, p, c, obj_off, c.ask.index + i, False, pam, host) != 0:
            c.did.duplicate = True
        if w.fault != 0:
            break
    return obj_off


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _settle_obj(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call),
                b: cython.pointer(Bucket), obj_off: u64, replaced: u64, nodes: u64, expires: u64) -> cython.void:
    """All pages are linked: date the obj of a value, or as it was, since the page of a lean one
    takes its expiry along; and count what came, beside the pages that were replaced and the
    objnodes that were there."""
    o: cython.pointer(Obj) = obj_at(w, obj_off)
    if c.ask.value != cython.NULL:
        date(w, p, b, obj_off, c.ask.value.expires)
    elif expires != 0:
        date(w, p, b, obj_off, expires)
    if c.ask.count != replaced:
        gauge(w, p.idx, GAUGE_PAGES, c.ask.count - replaced)
    if nodes_of(o) != nodes:
        gauge(w, p.idx, GAUGE_OBJNODES, nodes_of(o) - nodes)
    c.found.top = top_of(o)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _link(w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call),
          b: cython.pointer(Bucket), pam: PamOps, host: HostOps) -> cython.int:
    """Put steps 3 to 5 under the bucket's lock: old pages out, new pages in. OK, REFUSED, AGAIN
    (more nodes), NOMEM or CORRUPT.

    After REFUSED all handles of the call are empty and everything else is as it was. After NOMEM
    all is as it was: handles are emptied once, by a put that is refused for good, and nobody sees
    them empty who may then put something that a second try would drop."""
    nodes: u64
    mark: u64
    there: u64
    created_obj: cython.bint = False
    told: cython.bint = True        # the back end knows of the obj
    known: u64                      # the obj that it knew by this name before, or 0
    status: cython.int = OK
    # Where nobody counts what is given back and asked for again, the new page is in place at once.
    swap: cython.bint = not (pam.foreign or host.careful or c.did.refuse or c.did.exhausted)
    replaced: u64 = 0
    may_wait: cython.bint = not (pam.foreign or host.careful or c.did.salvaged)
    obj_off: u64 = find_obj(w, p, c, b)
    c.did.duplicate = c.did.grew = c.did.created = 0
    if c.ask.value != cython.NULL and not allowed(w, p, c, obj_off):
        return CONFLICT
    if c.did.refuse and may_wait:
        if c.found.dead != 0:
            bury_dead(w, p.record, b, c.found.dead)     # its memory may do
        return NOMEM
    expires: u64 = expiry_of(w, obj_at(w, obj_off))[0] if obj_off != 0 else 0
    obj_off = _clear(w, p, c, b, obj_off, swap, cython.address(known), pam, host)
    if w.fault != 0:
        return CORRUPT
    mark = savepoint(w)
    if c.did.refuse or (pam.foreign and pam.failed()):
        status = REFUSED
    elif obj_off == 0:
        obj_off = _new_obj(w, p, c, b, known != 0, pam, host)
        created_obj = obj_off != 0
        c.found.obj = obj_off
        told = not (pam.foreign and pam.failed())
        if not created_obj or not told:
            status = REFUSED
    there = obj_off         # what a rollback to the mark leaves
    if status == OK:
        obj_off = _with_stem(w, c, b, obj_off, pam, host)
        status = OK if obj_off != 0 else REFUSED
    nodes = nodes_of(obj_at(w, obj_off)) if obj_off != 0 else 0
    if status == OK:
        status = _link_pages(w, p, c, obj_off, cython.address(replaced), pam, host)
    if w.fault != 0:
        return CORRUPT
    if status == OK:
        c.did.duplicate = c.did.duplicate or replaced != 0
        if known != 0:
            forget_told(w, known)
        _settle_obj(w, p, c, b, obj_off, replaced, nodes, expires)
        return OK
    if not host.careful and not pam.foreign and not c.did.exhausted and not c.did.refuse:
        rollback(w, 0)
        return AGAIN
    if may_wait:
        rollback(w, 0)
        return NOMEM
    if there == 0:
        rollback(w, mark)
        return REFUSED
    nodes = nodes_of(obj_at(w, obj_off)) - nodes if obj_off != 0 else 0
    _uncreate(w, p, c, pam)
    if created_obj and pam.foreign and told and known == 0:
        pam.free_obj(p.idx, c.ask.oid)
    rollback(w, mark)
    host.objnode_undone(w, p.idx, nodes)
    if created_obj:
        host.obj_undone(w, p.idx, 1)
    else:
        drop_empty_obj(w, p, c, b, there, pam, host)
    return REFUSED


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _uncreate(
    w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), pam: PamOps
) -> cython.void:
    """Give pages of a failed put back to a foreign PAM. They are reached by index before the
    rollback, in the order they were made; the last one may not be linked yet, and heads the staged
    list then."""
    i: u64
    off: u64
    d: cython.pointer(Pampd)
    o: u64
    if not pam.foreign:
        return
    o = 0
    for i in range(c.did.created):
        off = 0
        if o == 0:
            o = find_obj(w, p, c, bucket_of(p, c))
        if o != 0:
            off = target_of(objnode.lookup(w, obj_at(w, o), c.ask.index + i))
        if off == 0:
            off = w.slot.client[ROOT_STAGED]
        d = pampd_at(w, off)
        if w.fault != 0:
            return
        pam.free(p.idx, c.ask.oid, d)
        d.data = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _all_there(
    w: cython.pointer(Worker), p: cython.pointer(PoolRef), c: cython.pointer(Call), b: cython.pointer(Bucket)
) -> cython.bint:
    """True if a put only replaces pages, which is all that a frozen client may."""
    obj_off: u64
    i: u64
    for i in range(c.ask.count):
        if find_page(w, p, c, b, c.ask.index + i, cython.address(obj_off)) == cython.NULL:
            return False
    return True


def stage(w, p, c, pam):
    """Put steps 1 and 2 as far as there is memory without an eviction; `put` does the rest. OK,
    BUSY or CORRUPT. Made to run with the GIL released: no lock but the own one is held when another
    is given back, and a sleeper woken, which takes the GIL."""
    status: cython.int = lock_try(w, cython.address(w.slot.own))
    if status == OK:
        drop_staged(w)      # of a put that an exception ended
        while status == OK and c.did.staged < c.ask.count:
            status = _stage(w, p, c, c.ask.count - 1 - c.did.staged, False, pam)
            c.did.staged += status == OK
        unlock(w, cython.address(w.slot.own))
    return status


def put(w, p, c, pam, host):
    """Put the pages of a call: all of them or none. OK, REFUSED, BUSY (call again), NOMEM (call
    again, `salvaged`), DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    status: cython.int
    while True:
        if lock_try(w, cython.address(w.slot.own)) != OK:
            return BUSY
        # 1. reserve, 2. copy
        status = _reserve(w, p, c, pam, host)
        if status != OK:
            unlock(w, cython.address(w.slot.own))
            return status
        # 3. lock
        if lock_try(w, cython.address(b.lock)) != OK:
            unlock(w, cython.address(w.slot.own))
            return BUSY
        if not alive(p):
            unlock(w, cython.address(b.lock))
            drop_staged(w)
            finish(w, REAP_BUDGET, host)
            return DESTROYED
        # 4. find or make the object, 5. link
        if c.did.bounce and _over(w, p, c, b):
            c.did.duplicate = True
            status = OK
        elif w.fault == 0:
            if is_frozen(w, p.record) and not _all_there(w, p, c, b):
                c.did.refuse = True
                c.did.salvaged = True       # it is not for want of memory
            status = _link(w, p, c, b, pam, host)
        status = end_section(w, b, status)
        if status == OK:
            remember(p, c)      # not before the commit: what is remembered was linked for good
        if status == AGAIN:
            c.did.nodes_wanted = NODES_MAX + c.ask.count // 64 + 1
            unlock(w, cython.address(w.slot.own))
            continue
        # 6. give back what was replaced, or what was staged in vain
        if status != OK:
            drop_staged(w)
        finish(w, REAP_BUDGET, host)
        return status
