"""Owns the attack: a child damages an arena by seed after seed and calls everything there is, its
parent sees it crash or hang.

`python -m tests.hostile.mutate --count N --seed S` prints one line a finding, with the command that
shows it again.

What may happen to a call on a damaged arena: the right answer, a miss or a refusal, or
engine.TmemError. What may not: a signal, a hang, another exception. A get that removes nothing,
before anything was written, may give wrong bytes only if the page, its descriptor or an object's id
was hit, or what a recovery writes by itself (a dead worker's slot, journal, bounce page). After
that, writes of the engine through damaged tables may have changed pages, and contents are not
compared.
"""
import argparse
import collections
import contextlib
import faulthandler
import json
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time

import engine
from engine.capacity import resize
from engine.integrity import stop
from tests.hostile.damage import damage, race
from tests.hostile.scene import LEASES, PAGE, Scene
from tests.support import SHM, leftovers

SCENES = ("sparse", "taken", "full", "taken")
RACE_EVERY = 16         # every so many seeds, the damage comes and goes while the calls are made
HANG_S = 5.0            # one call
SLOW_S = 0.6            # a mutation that took longer (bounded waits for locks) has no more calls
Finding = collections.namedtuple("Finding", "kind seed call detail")


# --- what is called -------------------------------------------------------------------------------


def reads(scene, e, rnd):
    """(name, call, handle or None) of calls that remove nothing."""
    handles = rnd.sample(sorted(scene.content), 14)
    buffer = bytearray(max(map(len, scene.content.values())))
    for key, oid, index in handles:
        pool = scene.pools[key]
        which = rnd.randrange(5)
        if (key, oid, index) in scene.values and which < 3:
            yield from reads_of_value(scene, pool, oid, (key, oid, index))
        elif which == 0 and key != "f":
            yield "get_range", lambda p=pool, o=oid, i=index: p.get_range(o, i, 1, free=False), (key, oid, index)
        elif which == 1:
            def into(p=pool, o=oid, i=index):
                n = p.get_into(o, i, buffer, free=False)
                return None if n < 0 else bytes(buffer[:n])
            yield "get_into", into, (key, oid, index)
        elif which == 2:
            def look(p=pool, o=oid, i=index):
                with p.view(o, i) as found:
                    return None if found is None else bytes(found)
            yield "view", look, (key, oid, index)
        else:
            yield "get", lambda p=pool, o=oid, i=index: p.get(o, i, free=False), (key, oid, index)
    key, oid, index = handles[0]
    pool = scene.pools[key]
    yield "object_info", lambda: pool.object_info(oid), None
    yield "descriptor", lambda: pool.descriptor(oid, index), None
    yield "get absent", lambda: pool.get((12345, 1, 1), 5, free=False), None
    yield "obj_count", lambda: pool.obj_count, None
    yield "objects", lambda: list(pool.objects(limit=300)), None
    yield "objects behind", lambda: list(pool.objects(after=oid, limit=9)), None
    yield "indexes", lambda: list(pool.object(oid).indexes(limit=300)), None


def reads_of_value(scene, pool, oid, handle):
    def whole():
        found = pool.get_object(oid, info=True)
        if found is None:
            return None
        data, info = found
        return data if (info.key, info.word) == scene.values[handle] else b"%r of another" % (info,)

    def into():
        buffer = bytearray(2 * PAGE)
        n = pool.get_object_into(oid, buffer)
        return None if n is None else bytes(buffer[:n])

    def look():
        with pool.view_object(oid) as found:
            return None if found is None else bytes(found)
    yield "get_object info", whole, handle
    yield "get_object", lambda: pool.get_object(oid), handle
    yield "get_object_into", into, handle
    yield "view_object", look, handle
    yield "has", lambda: pool.has(oid) and expires(pool, oid), None


def expires(pool, oid):
    with contextlib.suppress(KeyError):
        return pool.expires(oid)


def count(pool, oid, key):
    with contextlib.suppress(TypeError, OverflowError, KeyError):
        pool.incr(oid, 3, key=key)


def valued(scene, rnd):
    """The verbs of values, over whatever there is."""
    key = rnd.choice("pqfzdl")
    pool = scene.pools[key]
    for oid in rnd.sample([(n, 0, 0) for n in (*range(80, 86), 0, 1, 2, 90, 500)], 5):
        how = {"key": rnd.choice((None, b"key %d" % oid[0] * 3)), "word": rnd.choice((None, 7)),
               "ttl": rnd.choice((None, None, 50, 0))}
        found = None
        with contextlib.suppress(engine.TmemError):
            found = pool.get_object(oid, info=True)
        version = found[1].version if found else 0
        length = rnd.choice((0, 8, 300, PAGE - 99, 5000 if key != "f" else 8))
        which = rnd.randrange(8)
        with contextlib.suppress(engine.TmemError):
            if which == 0:
                pool.put_object(oid, b"n" * length, if_version=version, **how)
            elif which == 1:
                pool.put_object(oid, [b"n" * length, b"a"], if_absent=True, **how)
            elif which == 2:
                pool.flush_object(oid, if_version=version)
            elif which == 3:
                pool.touch(oid, how["ttl"])
            elif which == 4:
                count(pool, oid, how["key"])
            elif which == 5:
                with pool.writing_object(oid, length, **how) as page:
                    memoryview(page)[:] = b"w" * length
            else:
                pool.put_object(oid, b"/" * length, **how)


def late(scene, rnd):
    """A newcomer that attaches, works and leaves."""
    with engine.attach(scene.name) as e:
        for key in ("p", "q"):
            with contextlib.suppress(engine.TmemError):
                pool = e.pool(key)
                for (_, oid, index) in rnd.sample(sorted(scene.content), 3):
                    pool.get(oid, index)
                    pool.put(oid, index, b"late" * 50)
        for call in rnd.sample((e.stats, e.check, lambda: e.check(gentle=True), e.recover, e.pools,
                                lambda: e.new_pool(f"l{rnd.randrange(9)}").put((1, 2, 3), 4, b"l"),
                                lambda: e.check(repair=True), lambda: e.pools()[0].destroy()), 3):
            with contextlib.suppress(engine.TmemError, IndexError):
                call()


def destroy(scene, rnd):
    e = scene.engine
    rnd.choice(e.pools() or [scene.pools["p"]]).destroy()


def expire(scene, pool, oid):
    """One object, and whatever else has an expiry, is dead for a while."""
    e = scene.engine
    pool.touch(oid, 100)
    e.set_clock_ahead(1e7)
    try:
        pool.put_object(oid, b"e" * 333, ttl=50)
        e.tend()
    finally:
        e.set_clock_ahead(0)


def repaired(scene, rnd):
    """Repair it all, then it must work."""
    scene.engine.check(repair=True)
    for pool in scene.engine.pools():
        for (_, oid, index) in rnd.sample(sorted(scene.content), 3):
            pool.get(oid, index)
            pool.put(oid, index, b"after" * 20)


def crowd(scene, rnd):
    """Many puts, so that magazines are drained and filled."""
    pool = scene.pools["p"]
    for i in range(40):
        pool.put((60 + i % 9, 0, 0), i * 90, b"c" * (1 + i * 23 % PAGE))
    for i in range(9):
        pool.flush_object((60 + i, 0, 0))


def everywhere(scene, rnd):
    """Empty one pool, page by page or object by object."""
    key = rnd.choice("pqfzdcl")
    pool = scene.pools[key]
    for one, oid, index in sorted(scene.content):
        if one == key:
            pool.get(oid, index, free=True) if rnd.getrandbits(1) else pool.flush_object(oid)


def flushed_in_view(pool, oid, index):
    """A page goes into limbo and out of it."""
    with pool.view(oid, index):
        pool.flush_page(oid, index)
        pool.put(oid, index, b"v" * 300)


def written(pool, rnd):
    """A long page filled where it will lie, and others given up."""
    with pool.writing((0, 0, 0), rnd.randrange(4), rnd.randrange(1, 150_000)) as page:
        with pool.writing((0, 0, 0), 1, 70_000) as other:
            other.abort()
        page[:] = b"w" * len(page)
        pool.put((0, 0, 0), 1, b"p" * 80_000)


def leased(scene, rnd):
    """Leases that are held, and such as nobody has: for those a wait has no end but the lease."""
    for name in rnd.sample(range(40), 5):
        lease = scene.engine.lease(name)
        with contextlib.suppress(RuntimeError):
            lease.acquire(timeout=0.01 if name in LEASES else None)
        lease.locked()
        scene.other.lease(name).try_acquire()
        if lease.mine():
            lease.release()


def far(scene, rnd):
    """Fill the arena, with somebody who spills; and the verbs that find far pages and make them
    go."""
    pool = scene.pools["r"]
    for n in range(rnd.choice((1, 150))):
        pool.put_range((1000 + n, 0, 0), 0, (b"%d/" % n * 8 * PAGE)[: 8 * PAGE])
        if n % 8 == 0:
            scene.engine.spill()
    for n in rnd.sample(range(6), 3):
        which = rnd.randrange(5)
        with contextlib.suppress(engine.TmemError):
            if which == 0:
                pool.get_range((n, 0, 0), 0, 8, free=rnd.getrandbits(1) == 1)
            elif which == 1:
                pool.get_many([((n, 0, 0), index) for index in range(8)])
            elif which == 2:
                pool.flush_object((n, 0, 0))
            elif which == 3:
                pool.put_range((n, 0, 0), 4, b"far over" * 99 + b"!")
            else:
                scene.engine.pool("r").get((n, 0, 0), 1, free=True)


def writes(scene, rnd):
    """[(name, call)] of calls that change something, in any order."""
    e = scene.engine
    handles = rnd.sample(sorted(scene.content), 8)
    (k0, o0, i0), (k1, o1, i1), (k2, o2, i2), (k3, o3, i3) = handles[:4]
    pools = scene.pools
    calls = [
        ("put over", lambda: pools[k0].put(o0, i0, b"n" * rnd.randrange(1, PAGE + 1))),
        ("put new page", lambda: pools[k1].put(o1, rnd.getrandbits(rnd.randrange(1, 65)), b"w" * 77)),
        ("put new object", lambda: pools[k2].put((rnd.randrange(300, 400), 0, 0), rnd.getrandbits(20), b"x" * 555)),
        ("put_range", lambda: pools["p"].put_range(o3, i3 & 63, b"r" * (PAGE * rnd.randrange(1, 9)))),
        ("put_range capped", lambda: [pools["c"].put_range((n, 0, 0), 12, b"c" * (PAGE * 6)) for n in range(1, 7)]),
        ("put long", lambda: pools["l"].put((0, 0, 0), rnd.randrange(4), b"L" * rnd.randrange(60_000, 150_000))),
        ("write long", lambda: written(pools["l"], rnd)),
        ("values", lambda: valued(scene, rnd)),
        ("more values", lambda: valued(scene, rnd)),
        ("get free", lambda: pools[k1].get(o1, i1, free=True)),
        ("get_range free", lambda: pools["p"].get_range((0, 0, 0), 0, 4, free=True)),
        ("get exclusive", lambda: pools["q"].get(o2, i2)),
        ("flush in view", lambda: flushed_in_view(pools[k2], o2, i2)),
        ("flush_page", lambda: pools[k3].flush_page(o3, i3)),
        ("flush_object", lambda: pools[k0].flush_object(o0)),
        ("leases", lambda: leased(scene, rnd)),
        ("replace", lambda: pools["f"].replace((0, 0, 0), 1, 5, (pools["f"].descriptor((0, 0, 0), 1) or (0, 0))[1])),
        ("new_pool", lambda: e.new_pool(f"n{rnd.randrange(9)}").put((1, 2, 3), 4, b"new")),
        ("destroy", lambda: destroy(scene, rnd)),
        ("clear", lambda: [pools[k0].clear() for _ in range(3)]),
        ("expire", lambda: expire(scene, pools[k1], o1)),
        ("tend", e.tend),
        ("spill", lambda: far(scene, rnd)),
        ("walk", lambda: [len(list(pool.objects(limit=300))) for pool in e.pools()]),
        ("pools", lambda: [pool.get(o0, i0) for pool in e.pools()]),
        ("stats", e.stats), ("recover", e.recover), ("check", e.check), ("gentle check", lambda: e.check(gentle=True)),
        ("repair", lambda: repaired(scene, rnd)),
        ("late", lambda: late(scene, rnd)),
        ("other", lambda: (scene.other.pool("p").put(o0, i0, b"o" * 99), scene.other.pool("q").get(o1, i1))),
        ("crowd", lambda: crowd(scene, rnd)),
        ("everywhere", lambda: everywhere(scene, rnd)),
        ("resize", lambda: [e.resize(size) for size in (1 << 20, e.max_capacity)]),
    ]
    return rnd.sample(calls, rnd.choice((4, 8, 12)))


# --- the child ------------------------------------------------------------------------------------


class Child:
    """Scenes, made as they are needed; one seed after the other."""

    def __init__(self, prefix, progress, out):
        self.prefix = prefix
        self.progress = progress
        self.out = out
        self.scenes = {}
        self.calls = []         # names, by number

    def scene(self, seed):
        which = seed % len(SCENES)
        found = self.scenes.get(SCENES[which])
        if found is None:
            found = self.scenes[SCENES[which]] = Scene(f"{self.prefix}-{SCENES[which]}", SCENES[which])
        return found

    def find(self, kind, seed, call, detail):
        self.out.write(json.dumps([kind, seed, call, detail]) + "\n")
        self.out.flush()

    def tell(self, seed, call):
        text = call.encode()[:40].ljust(40, b"\0")
        struct.pack_into("<Qd40s", self.progress, 0, seed + 1, time.monotonic(), text)

    def attempt(self, seed, name, call):
        """(answered, answer) of one call."""
        self.tell(seed, name)
        try:
            return True, call()
        except engine.TmemError:
            return False, None
        except ValueError as error:
            # A back end in Python gives as many bytes as it was given; the damaged descriptor asks
            # for another number. And a page that is one word over and over may be of any length.
            if not any(text in str(error) for text in ("a back end gave something else", "as long as the page")):
                self.find("exception", seed, name, repr(error))
        except BaseException as error:
            self.find("exception", seed, name, repr(error))
        return False, None

    def run(self, seed):
        rnd = random.Random(seed)
        scene = self.scene(seed)
        self.tell(seed, "damage")
        scene.restore()
        if seed % RACE_EVERY == 0:
            return self.run_race(seed, scene, rnd)
        kind, changes = damage(scene, rnd)
        began = time.monotonic()
        for at, data in changes:
            os.pwrite(scene.fd, data, at)
        claimed = scene.claimed()
        if scene.other.worker_id in claimed:
            return
        excused = scene.excused([(at, len(data)) for at, data in changes])
        for name, call, handle in reads(scene, scene.engine, rnd):
            answered, answer = self.attempt(seed, name, call)
            if answered and handle and answer is not None and excused is not None and handle not in excused \
                    and answer != scene.content[handle]:
                want = scene.content[handle]
                at = next((i for i, (a, b) in enumerate(zip(answer, want, strict=False)) if a != b), None)
                self.find(
                    "wrong",
                    seed,
                    name,
                    f"{kind}: {handle} gave {len(answer)} bytes {answer[:40]}, not {len(want)}; "
                    f"the first that differs is {at}",
                )
            if time.monotonic() - began > SLOW_S:
                return
        calls = writes(scene, rnd)
        if kind == "header":
            calls = [("late", lambda: late(scene, rnd))] * 2 + calls[:3]
        for name, call in calls:
            if claimed and name in ("other", "late"):
                continue
            self.attempt(seed, name, call)
            if time.monotonic() - began > SLOW_S:
                return


    def run_race(self, seed, scene, rnd):
        """Damage that is there and not there. A finding may not come again by its seed alone."""
        began = time.monotonic()
        scene.toggle(race(scene, rnd))
        try:
            for name, call, _ in list(reads(scene, scene.engine, rnd)) * 3:
                self.attempt(seed, name, call)
            for name, call in writes(scene, rnd):
                self.attempt(seed, name, call)
                if time.monotonic() - began > SLOW_S:
                    break
        finally:
            scene.rest()


def child(prefix, seeds, progress, out_path, err_path):
    # For what a damaged arena keeps from being emptied, and for a transaction that nobody is in.
    resize.PATIENCE_S = resize.PUNCH_S = 0.1
    stop.OPEN_S = 0.03
    err = open(err_path, "w")
    faulthandler.enable(err, all_threads=False)
    faulthandler.register(signal.SIGUSR1, err, all_threads=False)
    with open(out_path, "a") as out:
        one = Child(prefix, progress, out)
        for seed in seeds:
            one.run(seed)
        one.tell(seeds[-1], "end")
        for scene in one.scenes.values():
            scene.restore()
            scene.close()


# --- the parent -----------------------------------------------------------------------------------


def clean(prefix):
    for file in leftovers(prefix):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SHM / file)


def _watch(pid, progress, err_path):
    """Wait for a child. (exit status, None) or (None, what it was doing) if it hung and was
    killed."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, None
        _, at, call = struct.unpack_from("<Qd40s", progress, 0)
        if at and time.monotonic() - at > HANG_S:
            os.kill(pid, signal.SIGUSR1)
            time.sleep(0.3)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            with open(err_path) as err:
                return None, err.read()[-1500:]
        time.sleep(0.01)


def attack(seeds, prefix, on_finding=None):
    """Run all seeds; the list of findings."""
    findings = []
    seeds = list(seeds)
    with tempfile.TemporaryDirectory() as folder:
        out_path, err_path = os.path.join(folder, "out"), os.path.join(folder, "err")
        open(out_path, "w").close()
        progress = mmap.mmap(-1, mmap.PAGESIZE)
        at = 0
        while at < len(seeds):
            struct.pack_into("<Qd40s", progress, 0, 0, time.monotonic(), b"")
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    # A damaged arena says wrong things of the locks somebody has; that the order is
                    # kept is for sound ones to show.
                    os.environ.pop("TMEM_CHECK_LOCKS", None)
                    child(prefix, seeds[at:], progress, out_path, err_path)
                    code = 0
                except BaseException:
                    import traceback
                    with open(err_path, "a") as err:
                        traceback.print_exc(file=err)
                finally:
                    os._exit(code)
            status, hung = _watch(pid, progress, err_path)
            clean(prefix)
            seed, _, call = struct.unpack_from("<Qd40s", progress, 0)
            call = call.rstrip(b"\0").decode()
            new = []
            with open(out_path) as out:
                new += [Finding(*json.loads(line)) for line in out]
            open(out_path, "w").close()
            if hung is not None:
                new.append(Finding("hang", seed - 1, call, hung))
            elif status:
                with open(err_path) as err:
                    text = err.read()[-1500:]
                name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status >> 8}"
                new.append(Finding(name, seed - 1, call, text))
            for finding in new:
                if on_finding:
                    on_finding(finding)
            findings += new
            if seed == 0 or not (status or hung is not None):
                break
            at = seeds.index(seed - 1) + 1
    return findings


def again(finding):
    return f"python -m tests.hostile.mutate --count 1 --seed {finding.seed}"


def main():
    parser = argparse.ArgumentParser(
        description="Damage a populated arena, call everything, see that nothing crashes or hangs."
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--verbose", action="store_true", help="with what the crashed or hung process was doing")
    arguments = parser.parse_args()
    prefix = f"hostile-{os.getpid()}"

    def show(finding):
        detail = f"\n{finding.detail}" if arguments.verbose else "" if len(finding.detail) > 300 else finding.detail
        print(f"{finding.kind:10} {again(finding)}   # in {finding.call} {detail}", flush=True)

    began = time.monotonic()
    try:
        findings = attack(range(arguments.seed, arguments.seed + arguments.count), prefix, show)
    finally:
        clean(prefix)
    print(f"{arguments.count} mutations, {len(findings)} findings, {time.monotonic() - began:.0f} s")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
