"""Owns the verbs that are interleaved: small named scenes, each on the same few hot pages, with the
steps the model knows them by.

A verb has `prepare` (whatever comes before the kill points are counted), `act`, and `steps(pool,
tag)`; its answer is one thing if it has one step, else a list with one for each. Pages are told by
their tags: `content` makes a page of one, and `tag_of` reads a page whole. Calls the public API.
"""
import ctypes
import os
import signal
import struct
from dataclasses import dataclass
from typing import Any

import engine
from shm import workers
from tests.interleavings import model

PAGE = 4096
SMALL, LARGE = "1MiB", "2MiB"
# Handles of each pool: (object, index); object 1 has two levels of tree.
HANDLES = [(1, 0), (1, 1), (1, 2), (1, 70), (2, 0), (2, 1), (3, 0), (4, 0)]      # 2 is lean at first; 4 is a count
BASE = {(1, 0): 300, (1, 1): 4096, (1, 70): 90, (2, 0): 1200}      # those that hold a page before, and its length
PR_SET_PDEATHSIG = 1
prctl = ctypes.CDLL(None).prctl


def content(tag, length):
    """A page that says which it is, everywhere, and is not one word over and over."""
    return (struct.pack("<QQ", tag, length) * (length // 16 + 1))[:length]


def tag_of(data):
    """The tag of a page, all of whose bytes were looked at; or what is wrong with it."""
    data = bytes(data)
    if len(data) == 8:
        return int.from_bytes(data, "little")
    if len(data) < 16:
        return f"bad: {len(data)} bytes"
    tag, length = struct.unpack_from("<QQ", data)
    if length != len(data) or data != content(tag, length):
        return f"bad: {len(data)} bytes that begin with {data[:16].hex()}"
    return tag


def oid(obj):
    return (obj, 0, 0)


class Call:
    """One verb in one worker: its engine, the pool's name, the first of its tags, and where it is
    to stop."""

    def __init__(self, worker, pool, tag, point):
        self.worker, self.name, self.tag, self.point = worker, pool, tag, point
        self.engine = worker.engine
        self.armed = None           # the engine whose kill points are counted
        self.kept = None

    @property
    def pool(self):
        return self.engine.pool(self.name)

    def arm(self, eng):
        self.armed = eng
        eng.set_kill_point(self.point, stop=True)


def open_first(call):
    call.kept = call.pool
    call.arm(call.engine)


def only_arm(call):
    call.arm(call.engine)


@dataclass
class Verb:
    steps: Any                      # (pool, tag) -> steps of the model
    act: Any                        # call -> answer
    prepare: Any = open_first
    pools: bool = True              # it is about a pool
    resizes: bool = False
    settles: bool = False           # it has more to do when it is done: a handler's exception may come out of that


def _put(obj, index, length):
    return Verb(lambda pool, tag: [model.put({(pool, obj, index): tag})],
                lambda call: call.kept.put(oid(obj), index, content(call.tag, length)))


def _put_range(call):
    data = b"".join(content(call.tag + n, length) for n, length in enumerate((PAGE, PAGE, 500)))
    return call.kept.put_range(oid(1), 0, data)


_MANY = [(2, 0), (1, 1), (3, 0)]
_LENGTHS = (300, 4096, 100)


def _put_many(call):
    return call.kept.put_many([(oid(obj), index) for obj, index in _MANY],
                              [content(call.tag + n, length) for n, length in enumerate(_LENGTHS)])


def _get(call, free=None):
    data = call.kept.get(oid(1), 0, free)
    return None if data is None else [tag_of(data)]


def _get_range(call, free=None):
    # Pages are of different lengths: only the last of a range may be shorter than a page.
    data = call.kept.get_range(oid(1), 1, 1, free)
    return None if data is None else [tag_of(data)]


def _put_part(call):
    """Over the end of what put-range puts."""
    return call.kept.put_range(oid(1), 1, content(call.tag, PAGE) + content(call.tag + 1, 2000))


def _tags(data):
    tags = []
    while data and len(tags) < 9:
        length = struct.unpack_from("<Q", data, 8)[0] if len(data) >= 16 else len(data)
        tags.append(tag_of(data[:length]))
        data = data[length:]
    return tags or None


def _get_value(call):
    """The pages of put-range at one moment; each says how long it is."""
    return _tags(call.kept.get_range(oid(1), 0, 3, True))


def _put_object(length, key=b"key", if_absent=False):
    def act(call):
        data = content(call.tag, length)
        answer = call.kept.put_object(
            oid(1), [data[:9], data[9:]], key=key, word=call.tag % 2**64, if_absent=if_absent
        )
        return "conflict" if answer is engine.CONFLICT else answer
    return act


def _write_object(call):
    try:
        with call.kept.writing_object(oid(1), 3000, word=call.tag % 2**64) as page:
            page[:] = content(call.tag, 3000)
        return True
    except engine.ArenaFull:
        return "full"


def _get_object(call):
    try:
        found = call.kept.get_object(oid(1), info=True)
    except engine.TmemError as error:
        if "no value" not in str(error):
            raise
        return "no value"
    if found is None:
        return None
    data, info = found
    tags = _tags(data)
    return tags if info.word in (None, tags[0] % 2**64) else [f"bad: a word of {info.word}"]


def _incr(call):
    try:
        return call.kept.incr(oid(4), key=b"k")
    except engine.ArenaFull:
        return "full"


def _get_many(call):
    found = call.kept.get_many([(oid(obj), index) for obj, index in _MANY], free=True)
    return [None if data is None else [tag_of(data)] for data in found]


def _get_pages(call, free):
    """Three pages of an object at one moment."""
    with call.kept.view(oid(1), 0, 3) as pages:
        if pages is None:
            return None
        tags = [tag_of(page) for page in pages]
        os.sched_yield()
        return tags if tags == [tag_of(page) for page in pages] else ["bad: a page changed while it was viewed"]


def _view(call):
    with call.kept.view(oid(1), 0) as page:
        if page is None:
            return None
        before = bytes(page)
        os.sched_yield()
        return [tag_of(before)] if page == before else ["bad: a page changed while it was viewed"]


def _new_pool(call):
    try:
        return call.engine.new_pool("n", persistent=True, shared=True) is not None
    except engine.PoolExists:
        return "exists"


def _resize(size):
    def act(call):
        try:
            call.engine.resize(size)
            return True
        except engine.ArenaBusy as error:
            if "very engine" in str(error):
                return "busy"           # another thread of this worker resizes, or the call it interrupts does
            raise
        except engine.TmemError:
            return "no room"
    return act


def _check(repair):
    def act(call):
        report = call.engine.check(repair=repair)
        return (
            True
            if report.ok and not report.lost
            else f"bad: {[str(problem) for problem in (report.problems or report.repaired)[:3]]}"
        )

    return act


def _attach(call):
    workers.kill_newcomers_at(call.point, stop=True)
    try:
        call.kept = call.armed = engine.attach(call.engine.name)
    finally:
        workers.kill_newcomers_at(0)
    call.worker.extras.append(call.kept)
    return True


def _warm(call):
    """Another engine of this process, with something in its magazines and on its lists."""
    call.kept = engine.attach(call.engine.name)
    call.worker.extras.append(call.kept)
    scratch = call.kept.pool("s")
    for n in range(3):
        scratch.put(oid(7), n, content(1, 1000))
        scratch.flush_page(oid(7), n)
    call.arm(call.kept)


def _close(call):
    call.kept.close()
    return True


def _fork(call):
    """A child that uses the inherited engine and leaves; it is the child that stops, and its parent
    stops with it."""
    workers.kill_newcomers_at(call.point, stop=True)
    read, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                data = call.kept.get(oid(1), 0, False)
                call.engine.close()
                os.write(write, b"none" if data is None else str(tag_of(data)).encode())
        except engine.PoolDestroyed:
            os.write(write, b"gone")
        except BaseException as error:
            os.write(write, f"bad: {error!r}".encode())
        finally:
            os._exit(0)
    workers.kill_newcomers_at(0)
    os.close(write)
    try:
        call.worker.tell("child", pid)
        while os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]):
            os.kill(parent, signal.SIGSTOP)
            os.kill(pid, signal.SIGCONT)
        said = os.read(read, 4096).decode()
    finally:
        os.close(read)
    if said == "gone":
        raise engine.PoolDestroyed("in the child")
    return None if said == "none" else [int(said) if said.isdigit() else said or "bad: the child died"]


def _cells(pool, *handles):
    return [(pool, *handle) for handle in handles]


_OBJECT = [handle for handle in HANDLES if handle[0] == 1]


def _whole(pool, tag, condition=False):
    return model.put_value({(pool, 1, 0): tag}, _cells(pool, *_OBJECT), condition)


VERBS = {
    "put-object": _put(3, 0, 700),
    "put-page": _put(1, 2, 4096),
    "put-beside": _put(2, 1, 900),
    "put-over": _put(1, 0, 300),
    "put-over-longer": _put(1, 0, 4000),
    "put-range": Verb(
        lambda pool, tag: [model.put({(pool, 1, n): tag + n for n in range(3)})], _put_range, settles=True
    ),
    "put-range-over": Verb(
        lambda pool, tag: [model.put({(pool, 1, 1 + n): tag + n for n in range(2)})], _put_part, settles=True
    ),
    "put-many": Verb(
        lambda pool, tag: [model.put({(pool, *handle): tag + n}) for n, handle in enumerate(_MANY)], _put_many
    ),
    "put-value": Verb(lambda pool, tag: [_whole(pool, tag)], _put_object(700)),
    "put-value-over": Verb(lambda pool, tag: [_whole(pool, tag)], _put_object(270)),
    "add-value": Verb(lambda pool, tag: [_whole(pool, tag, True)], _put_object(4000, None, True)),
    "write-value": Verb(lambda pool, tag: [_whole(pool, tag)], _write_object),
    "get-value": Verb(lambda pool, tag: [model.get_whole(_cells(pool, *_OBJECT))], _get_object),
    "incr": Verb(lambda pool, tag: [model.incr((pool, 4, 0))], _incr),
    "touch-dead": Verb(
        lambda pool, tag: [model.flush(_cells(pool, *_OBJECT))],
        lambda call: call.kept.touch(oid(1), 0),
        settles=True,
    ),
    "get": Verb(lambda pool, tag: [model.get(_cells(pool, (1, 0)), pool == "x")], _get),
    "get-exclusive": Verb(lambda pool, tag: [model.get(_cells(pool, (1, 0)), True)], lambda call: _get(call, True)),
    "get-range": Verb(lambda pool, tag: [model.get(_cells(pool, (1, 1)))], lambda call: _get_range(call, False)),
    "get-range-exclusive": Verb(
        lambda pool, tag: [model.get(_cells(pool, (1, 1)), True)], lambda call: _get_range(call, True)
    ),
    "get-value-exclusive": Verb(
        lambda pool, tag: [model.get(_cells(pool, (1, 0), (1, 1), (1, 2)), True)], _get_value
    ),
    "get-many-exclusive": Verb(
        lambda pool, tag: [model.get(_cells(pool, handle), True) for handle in _MANY], _get_many
    ),
    "view": Verb(lambda pool, tag: [model.get(_cells(pool, (1, 0)))], _view),
    "view-range": Verb(
        lambda pool, tag: [model.get(_cells(pool, (1, 0), (1, 1), (1, 2)))], lambda call: _get_pages(call, False)
    ),
    "flush-page": Verb(
        lambda pool, tag: [model.flush(_cells(pool, (1, 0)))],
        lambda call: call.kept.flush_page(oid(1), 0),
        settles=True,
    ),
    "flush-middle": Verb(
        lambda pool, tag: [model.flush(_cells(pool, (1, 1)))],
        lambda call: call.kept.flush_page(oid(1), 1),
        settles=True,
    ),
    "flush-object": Verb(
        lambda pool, tag: [model.flush(_cells(pool, *_OBJECT))],
        lambda call: call.kept.flush_object(oid(1)),
        settles=True,
    ),
    "destroy": Verb(lambda pool, tag: [model.destroy(pool)], lambda call: call.kept.destroy(), settles=True),
    "fork": Verb(
        lambda pool, tag: [model.get(_cells(pool, (1, 0)))], _fork, lambda call: setattr(call, "kept", call.pool)
    ),
    "new-pool": Verb(lambda pool, tag: [model.new_pool("n")], _new_pool, only_arm, pools=False, settles=True),
    "resize-down": Verb(
        lambda pool, tag: [model.nothing(True, "no room", "busy")],
        _resize(SMALL),
        only_arm,
        pools=False,
        resizes=True,
        settles=True,
    ),
    "resize-up": Verb(
        lambda pool, tag: [model.nothing(True, "busy")],
        _resize(LARGE),
        only_arm,
        pools=False,
        resizes=True,
        settles=True,
    ),
    "check": Verb(lambda pool, tag: [model.nothing(True)], _check(False), only_arm, pools=False),
    "repair": Verb(lambda pool, tag: [model.nothing(True)], _check(True), only_arm, pools=False),
    "recover": Verb(lambda pool, tag: [model.nothing()], lambda call: call.engine.recover(), only_arm, pools=False),
    "attach": Verb(lambda pool, tag: [model.nothing(True)], _attach, lambda call: None, pools=False),
    "close": Verb(lambda pool, tag: [model.nothing(True)], _close, _warm, pools=False, settles=True),
    "stats": Verb(
        lambda pool, tag: [model.nothing(True)], lambda call: "total" in call.engine.stats(), only_arm, pools=False
    ),
}
ATTACHING = {"attach"}
LEAVING = {"attach", "fork", "close"}       # none of these may hold up whoever needs what a dead worker had
