"""Owns one arena on which interleavings are played: the moves, who may wait for whom, and the
judgement at the end.

The rules. A verb that is called while others are stopped answers, unless somebody stopped has what
it needs. Then it waits, and it is let wait. What counts as having it is read in the arena, not
guessed: a lock whose word names a stopped worker and says that somebody waits; another worker's own
lock, or the gate, if a stopped worker is one that recovers, resizes or checks; the resize byte; for
a resize, a worker's lists or a call that somebody is stopped in. Who is stopped in attaching is
never a reason to wait, before it is a worker and recovers the dead, and who is stopped in
attaching, leaving or in a fork's first use does not hold up a recovery. When the last one has gone
on or was killed, all others answer within `LIMIT_S`. Then nothing of the dead is left, `check` is
clean, no page is there that was not put, and what was answered and what is there are explained by
the model. Calls actors, model, verbs, and `tests/hostile/structs.py` for where locks lie.
"""
import os
import signal
import struct
import time
from dataclasses import dataclass, field

import engine
from tests.hostile.structs import CONSTANTS, SIZES, Map, offset
from tests.interleavings import model
from tests.interleavings.actors import HUGE, SIGNAL, Actor, poll
from tests.interleavings.verbs import ATTACHING, BASE, HANDLES, LARGE, LEAVING, PAGE, VERBS, content, oid, prctl, tag_of
from tests.support import SANITIZED

LIMIT_S = 30.0 if SANITIZED else 6.0    # an answer that takes longer, with nobody in the way, is a hang
LOOK_S = 0.0015         # how long to wait for an answer before looking whether it waits for a lock
BYTES_S = 0.02          # the same for what leaves no mark in the arena: a byte of the kernel, a grace period
WAITS = 1 << 63
PR_SET_CHILD_SUBREAPER = 36
FULL = 20 << 16         # capacity of an arena that is full: four segments more than it may shrink to
POOLS = {
    "p": dict(persistent=True),
    "e": dict(),
    "x": dict(shared=False),
    "s": dict(persistent=True),
    "f": dict(persistent=True),
}
HOT = ("p", "e", "x")


@dataclass(frozen=True)
class Kind:
    """A kind of arena: how many buckets, and what it is full of."""

    buckets: int
    filler: str = ""            # the pool whose pages fill it: "f" persistent ones, "g" ephemeral ones

    @property
    def rules(self):
        return model.Rules(refuses=self.filler == "f", drops=self.filler != "")


KINDS = {"roomy1": Kind(1), "roomy2": Kind(2), "crammed": Kind(1, "f"), "evicting": Kind(1, "g")}


@dataclass
class Outcome:
    """What an interleaving came to."""

    schedule: str
    faults: list = field(default_factory=list)
    reached: bool = False       # somebody stopped where it was to
    waited: int = 0             # verbs that waited for somebody who was stopped
    worst_ms: float = 0.0       # the longest wait for an answer after the last one had gone on
    died: int = 0


class Fault(Exception):
    """The interleaving can't go on."""


class Stage:
    """An arena, its workers by letter, and the state between two interleavings."""

    def __init__(self, name, kind):
        self.name, self.kind = name, KINDS[kind]
        self.rules = self.kind.rules
        self.actors, self.tags, self.clock = {}, 1000, 0
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)
        self.before = (
            signal.signal(signal.SIGCHLD, lambda *_: None),
            signal.set_wakeup_fd(self.write_fd, warn_on_full_buffer=False),
        )
        self.engine = engine.create(
            name,
            LARGE if not self.kind.filler else FULL,
            page_size=PAGE,
            buckets=self.kind.buckets,
            max_workers=16,
            max_pools=8,
            max_capacity=LARGE,
            huge_pages=False,
        )
        self.capacity = self.engine.capacity
        self.fd = os.open(f"/dev/shm/{name}", os.O_RDWR | os.O_CLOEXEC)
        self.map = Map(os.pread(self.fd, 4096, 0))
        for pool, arguments in POOLS.items():
            self.engine.new_pool(pool, **arguments)
        self.filled, self.worn = {}, False
        self.state = {("pool", pool): True for pool in HOT}
        self.restore()
        self.fill()

    def close(self):
        for actor in self.actors.values():
            actor.drop()
        self.actors = {}
        prctl(PR_SET_CHILD_SUBREAPER, 0)
        signal.set_wakeup_fd(self.before[1])
        signal.signal(signal.SIGCHLD, self.before[0])
        for fd in (self.read_fd, self.write_fd, self.fd):
            os.close(fd)
        self.engine.close()
        engine.unlink(self.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- what lies in the arena between two interleavings -----------------------------------------

    def fresh_tag(self):
        self.tags += 16
        return self.tags

    def fill(self):
        """Pages that nobody touches: a dozen, or as many as there is room for."""
        if "g" == self.kind.filler:
            self.engine.new_pool("g")
        pools = [self.engine.pool(name) for name in ("f", self.kind.filler) if name]
        for n in range(12):
            self._fill_one(pools[0], "f", n, 100 + n * 300)
        n = 96
        while self.kind.filler and n < 512 and self._fill_value(pools[-1], self.kind.filler, n, 1 + n % 7):
            n += 8
        while self.kind.filler and n < 800 and self._fill_one(pools[-1], self.kind.filler, n, PAGE):
            n += 1

    def _fill_one(self, pool, name, n, length):
        tag = self.fresh_tag()
        if pool.put(oid(50 + n // 32), n % 32, content(tag, length)):
            self.filled[name, n] = tag
            return True
        return False

    def _fill_value(self, pool, name, n, pages):
        tags = [self.fresh_tag() for _ in range(pages)]
        if pool.put_range(oid(50 + n // 32), n % 32, b"".join(content(tag, PAGE) for tag in tags)):
            self.filled.update({(name, n + at): tag for at, tag in enumerate(tags)})
            return True
        return False

    def restore(self):
        """Every hot handle as the next interleaving expects it, with pages nobody had before."""
        names = {pool.name for pool in self.engine.pools()}
        if "n" in names:
            self.engine.pool("n").destroy()
        if self.engine.capacity != self.capacity:
            try:
                self.engine.resize(self.capacity)
            except engine.TmemError:
                if not self.kind.filler:
                    raise
                self.worn = True        # it was larger for a while, and what came to lie there has no room now
        for name in HOT:
            if name not in names:
                self.engine.new_pool(name, **POOLS[name])
            pool = self.engine.pool(name)
            for obj, index in HANDLES:
                cell = name, obj, index
                if (obj, index) in BASE:
                    if cell not in self.state or self.state[cell] > 0:
                        tag = self.fresh_tag()
                        if not pool.put(oid(obj), index, content(tag, BASE[obj, index])) and not self.rules.refuses:
                            raise Fault(f"a put that restores {cell} was refused")
                elif cell in self.state:
                    pool.flush_page(oid(obj), index)
        scratch = self.engine.pool("s")
        for obj in (7, 9):
            scratch.flush_object(oid(obj))
        self.state = self.seen()[0]

    def seen(self):
        """({cell: tag} of the hot pools, {handle: what is wrong} of all pages, how many pages there
        are)."""
        state, wrong, count = {}, {}, 0
        names = {pool.name: pool for pool in self.engine.pools()}
        for name in (*HOT, "n"):
            if name in names:
                state["pool", name] = True
                for obj, index in HANDLES:
                    data = names[name].get(oid(obj), index, free=False)
                    if data is not None:
                        state[name, obj, index] = tag_of(data)
                        count += 1
        wrong.update({cell: tag for cell, tag in state.items() if isinstance(tag, str)})
        for (name, n), tag in self.filled.items():
            data = names[name].get(oid(50 + n // 32), n % 32, free=False)
            found = None if data is None else tag_of(data)
            if found != tag and (found is not None or name == "f"):
                wrong[name, n] = f"{found}, not {tag}"
            count += found is not None
        return state, wrong, count + self._scratch(names["s"])

    @staticmethod
    def _scratch(pool):
        """Pages that no model knows: of signal handlers, and of who was killed while it
        prepared."""
        return sum(pool.get(oid(obj), n) is not None for obj in (7, 9) for n in range(3))

    # --- listening --------------------------------------------------------------------------------

    def actor(self, letter):
        """The living worker of this letter."""
        actor = self.actors.get(letter)
        if actor is None or actor.dead:
            if actor is not None:
                actor.drop()
            fds = [
                fd for other in self.actors.values() if other.letter != letter for fd in (other.commands, other.answers)
            ]
            actor = self.actors[letter] = Actor(letter, self.name, fds)
            self.until(lambda: actor.ready or actor.dead, LIMIT_S)
            if not actor.ready:
                raise Fault(f"worker {letter} could not attach")
        return actor

    def listen(self, seconds):
        """Take in what comes within so long: answers, and news of the kernel."""
        living = {actor.answers: actor for actor in self.actors.values() if not actor.dead}
        for fd in poll([self.read_fd, *living], seconds):
            if fd == self.read_fd:
                os.read(fd, 4096)
                for actor in living.values():
                    if not actor.dead:
                        actor.look()
            else:
                messages, alive = living[fd].read()
                if not alive:
                    living[fd].look()
                for message in messages:
                    self._take(living[fd], *message)

    def _take(self, actor, what, *rest):
        if what == "answer":
            number, answer, points = rest
            op = actor.ops.get(abs(number))
            if number < 0 and op is not None:       # a child that did it as well
                # The fork may have come when the verb was done but for giving memory back: then the
                # child only says what it was.
                steps = (
                    [model.either(step, model.nothing()) for step in op.steps] if VERBS[op.verb].settles else op.steps
                )
                twin = model.Op(op.text + " (its child)", steps, op.began, pool=op.pool, optional=True)
                twin.verb = op.verb
                self.ops.append(twin)
                op = twin
            if op is not None:
                op.answer, op.ended, op.points = answer, self.tick(), points
                actor.waits = any(other.ended == model.FOREVER for other in actor.ops.values()) and actor.waits
        elif what == "began":
            actor.ops[rest[0]].begun = True
        elif what == "child":
            actor.children.append(rest[0])
        elif what == "handled":
            actor.handled.append(rest[0])
        elif what == "ready":
            actor.ready = True
        elif what == "tidied":
            actor.tidied = True

    def tick(self):
        self.clock += 1
        return self.clock

    def until(self, done, seconds):
        """Listen until `done()`, for so long at most: whether it is."""
        end = time.monotonic() + seconds
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.listen(min(left, 0.05))
        return True

    # --- who waits for whom -----------------------------------------------------------------------

    def word(self, at):
        return struct.unpack("<Q", os.pread(self.fd, 8, at))[0]

    def in_the_way(self, actor):
        """The others that are stopped, or wait for one that is."""
        return [
            other
            for other in self.actors.values()
            if other is not actor and not other.dead and (other.stopped or other.waits)
        ]

    def _waited_for(self, others):
        """True if somebody waits for a lock that one of these has, and who may keep it."""
        pids = {}
        for other in others:
            pids.update(dict.fromkeys((other.pid, *other.children), other))
        high = min(self.word(self.map.depot + offset("Depot", "slots_high")), self.map.workers)
        slots = {i: os.pread(self.fd, 128, self.map.slot(i)) for i in range(high)}
        # A newcomer counts from the moment on at which it is a worker: before, it must hold up
        # nobody.
        owners = {
            i
            for i, slot in slots.items()
            if slot[0] == CONSTANTS["SLOT_LIVE"] and struct.unpack_from("<Q", slot, offset("Slot", "pid"))[0] in pids
        }
        for slot in slots.values():
            held = struct.unpack_from(f"<{CONSTANTS['HELD_MAX']}Q", slot, offset("Slot", "held"))
            own = struct.unpack_from("<Q", slot, offset("Slot", "own"))[0]
            for owner in (own, *(self.word(at) for at in held if at)):
                if owner & WAITS and (owner & 0xFFFF) - 1 in owners:
                    return True
        return False

    def _has_lists(self, others, its_own):
        """True if one of these has another worker's own lock (it recovers the dead, resizes or
        checks), or `its_own`, or has closed the gate."""
        pids = {pid for other in others if other.stopped for pid in (other.pid, *other.children)}
        high = min(self.word(self.map.depot + offset("Depot", "slots_high")), self.map.workers)
        slots = [os.pread(self.fd, 128, self.map.slot(i)) for i in range(high)]
        mine = {i for i, slot in enumerate(slots) if struct.unpack_from("<Q", slot, offset("Slot", "pid"))[0] in pids}
        words = [(i, struct.unpack_from("<Q", slot, offset("Slot", "own"))[0]) for i, slot in enumerate(slots)]
        words.append((None, self.word(self.map.depot + offset("Depot", "gate"))))
        # Or it has found no slot but that dead worker's, whose own lock it has then in the name
        # that it is about to have.
        heirs = {
            i
            for i, owner in words[:-1]
            if (owner & ~WAITS) >> 16 == struct.unpack_from("<Q", slots[i], offset("Slot", "gen"))[0] + 1
        }
        return bool(heirs) or any((owner & 0xFFFF) - 1 in (mine if its_own else mine - {i}) for i, owner in words)

    def _inside(self, others):
        """True if one of these is stopped in a call, or in the recovery with which an attachment
        ends."""
        pids = {pid for other in others if other.stopped for pid in (other.pid, *other.children)}
        high = min(self.word(self.map.depot + offset("Depot", "slots_high")), self.map.workers)
        slots = [os.pread(self.fd, SIZES["Slot"], self.map.slot(i)) for i in range(high)]
        return any(
            slot[0] == CONSTANTS["SLOT_LIVE"]
            and struct.unpack_from("<Q", slot, offset("Slot", "pid"))[0] in pids
            and struct.unpack_from("<Q", slot, offset("Slot", "phase"))[0] & 1
            for slot in slots
        )

    def may_wait(self, actor, long):
        """Whether somebody who is stopped has what this one needs; `long`: it has waited long
        enough to look at bytes too."""
        others = self.in_the_way(actor)
        if not others:
            return False
        if self._waited_for(others):
            return True
        if not long:
            return False
        stopped = [other for other in others if other.stopped and other.op]
        verbs = {other.op.verb for other in stopped}
        resizes = any(VERBS[op.verb].resizes for op in actor.ops.values() if op.ended == model.FOREVER)
        # For a resize: a worker's lists, the resize byte, or a call that has not ended.
        return self._has_lists(others, resizes) or resizes and (bool(verbs - ATTACHING) or self._inside(others))

    def watch(self, actor, op):
        """Until a verb has answered, its worker has stopped, died, or waits for one that is
        stopped."""
        began, looked = time.monotonic(), LOOK_S
        while True:
            if self.until(lambda: op.ended != model.FOREVER or actor.stopped or actor.dead, looked):
                actor.waits = False
                return
            took = time.monotonic() - began
            if self.may_wait(actor, took > BYTES_S):
                actor.waits = True
                return
            if took > LIMIT_S:
                others = ", ".join(
                    f"{other.letter} in {other.op.verb if other.op else 'nothing'}" for other in self.in_the_way(actor)
                )
                raise Fault(f"{op.text} did not answer in {LIMIT_S:.0f} s; stopped: {others or 'nobody'}")
            looked = min(LOOK_S + took, 0.02)

    # --- the moves --------------------------------------------------------------------------------

    def begin(self, letter, verb, pool, point=0, threaded=False, handler=""):
        actor = self.actor(letter)
        tag = self.fresh_tag()
        op = model.Op(f"{letter}:{verb}@{pool}", VERBS[verb].steps(pool, tag), self.tick(), pool=pool)
        op.optional = len(op.steps) > 1 or VERBS[verb].settles
        op.verb, op.points, op.number = verb, 0, len(self.ops) + 1
        self.ops.append(op)
        actor.ops[op.number] = actor.op = op
        self.engaged.add(letter)
        actor.handler = handler
        actor.send("do", op.number, verb, pool, tag, point, threaded, handler)
        self.watch(actor, op)
        return op

    def go_on(self, letter):
        actor = self.actors[letter]
        if actor.dead:
            return
        if actor.stopped:
            actor.stopped = False
            os.kill(actor.pid, signal.SIGCONT)
        if actor.op is not None and actor.op.ended == model.FOREVER:
            self.watch(actor, actor.op)

    def kill(self, letter):
        actor = self.actors.get(letter)
        if actor is not None and not actor.dead:
            self.listen(0)
            actor.kill()
            self.outcome.died += 1

    def signal(self, letter):
        """A signal to a worker that waits; what its handler does was said when its verb began."""
        actor = self.actors[letter]
        if actor.waits and not actor.stopped:
            op, mode = actor.op, actor.handler
            self.until(lambda: op.begun, LIMIT_S)
            # Where a thread of its own is the one that waits, the verb may be over when the signal
            # comes, and its handler raise before the answer is kept: then it has done what it does.
            op.optional = op.optional or len([one for one in actor.ops.values() if one.ended == model.FOREVER]) > 1
            os.kill(actor.pid, SIGNAL)
            # A resize takes back what it has begun before it lets the exception out, and may wait
            # for the same lock in that.
            if (
                mode == "raise"
                and not VERBS[op.verb].resizes
                and not self.until(lambda: op.ended != model.FOREVER, LIMIT_S)
            ):
                raise Fault(f"{op.text} waits, and a handler that raises does not end the wait")
            if mode == "use":
                self.until(lambda: actor.handled or op.ended != model.FOREVER, 0.1)
            if mode == "fork":
                self.until(lambda: actor.children, LIMIT_S)

    def play(self, schedule):
        """Play the moves of a parsed schedule; the outcome."""
        self.ops, self.engaged = [], set()
        self.outcome = outcome = Outcome(schedule.text)
        start = dict(self.state)
        for actor in self.actors.values():
            actor.fresh()
        try:
            for letter in sorted({move.arguments[0] for move in schedule.moves}):
                self.actor(letter)          # before anybody is stopped
            for move in schedule.moves:
                getattr(self, move.what)(*move.arguments)
                outcome.reached = outcome.reached or any(actor.stopped for actor in self.actors.values())
                if move.what == "begin":
                    outcome.waited += self.actors[move.arguments[0]].waits
            self.finish(outcome)
            self.judge(start, outcome)
        except (Fault, engine.TmemError) as fault:
            outcome.faults.append(str(fault))
        return outcome

    def finish(self, outcome):
        """Whoever still stands stopped goes on, and who stops only now; then everybody answers."""
        def done():
            for actor in self.actors.values():
                if actor.stopped:
                    actor.stopped = False
                    os.kill(actor.pid, signal.SIGCONT)
            return not self.unanswered()

        began = time.monotonic()
        if not self.until(done, LIMIT_S):
            raise Fault(f"{self.unanswered()} did not answer within {LIMIT_S:.0f} s after everybody had gone on")
        outcome.worst_ms = (time.monotonic() - began) * 1000
        for letter in self.engaged:
            actor = self.actors[letter]
            if (
                not actor.dead
                and any(op.verb in LEAVING for op in actor.ops.values())
                or actor.children
                or len(actor.ops) > 1
            ):
                self._tidy(actor)

    def unanswered(self):
        return [
            op.text
            for actor in self.actors.values()
            if not actor.dead
            for op in actor.ops.values()
            if op.ended == model.FOREVER
        ]

    def _tidy(self, actor):
        if actor.dead:
            return
        actor.tidied = False
        actor.send("tidy")
        if not self.until(lambda: actor.tidied or actor.dead, LIMIT_S):
            raise Fault(f"worker {actor.letter} does not come to an end of its threads and engines")
        for pid in actor.children:
            # The child of a handler does the verb as well; it tells, and ends.
            if not self.until(lambda pid=pid: not os.path.exists(f"/proc/{pid}") or _is_zombie(pid), LIMIT_S):
                raise Fault(f"a child of worker {actor.letter} does not end")
        actor.children = []

    def judge(self, start, outcome):
        """What was answered, and what is left."""
        faults = outcome.faults
        faults += [
            f"{op.text}: {op.answer}" for op in self.ops if isinstance(op.answer, str) and op.answer.startswith("bad")
        ]
        faults += [f"{op.text}: {part}" for op in self.ops if isinstance(op.answer, list) for part in _parts(op.answer)
                   if isinstance(part, str) and part.startswith("bad")]
        resizes = [op for op in self.ops if VERBS[op.verb].resizes]
        # While it shrinks, pages go, and a put may find neither a page that can go nor a segment
        # that may be taken.
        rules = model.Rules(self.rules.refuses or bool(resizes), self.rules.drops or bool(resizes))
        faults += [f"a handler: {said}" for actor in self.actors.values() for said in actor.handled
                   if said is not True and not (said == "refused" and rules.refuses)]
        died = [actor for actor in self.actors.values() if actor.dead and actor.letter in self.engaged]
        faults += [f"worker {actor.letter} died by itself" for actor in died if not outcome.died]
        # A child that died with its parent may die a moment later.
        living = 1 + sum(not actor.dead for actor in self.actors.values())
        self.until(lambda: self.engine.recover() == 0 and self.engine.stats()["arena"]["workers"] == living, 1.0)
        report = self.engine.check()
        if not report.ok:
            faults.append(f"check: {[str(problem) for problem in report.problems[:3]]}")
        stats = self.engine.stats()
        workers = stats["arena"]["workers"]
        if workers != living:
            faults.append(f"{workers} slots are taken, by {living} workers")
        found, wrong, count = self.seen()
        faults += [f"page {handle}: {what}" for handle, what in wrong.items()]
        if stats["total"]["pages"] != count:
            faults.append(f"{stats['total']['pages']} pages are counted, {count} are found")
        capacity = stats["arena"]["capacity"]
        if capacity != self.capacity and not resizes:
            faults.append(f"the capacity is {capacity}")
        if not wrong and not faults and not model.explained(self.ops, start, found, rules):
            faults.append(self._unexplained(start, found))
        self.state = found
        if not faults:
            self.restore()

    def _unexplained(self, start, found):
        differ = {cell: (start.get(cell), found.get(cell)) for cell in sorted(start.keys() | found.keys(), key=str)
                  if start.get(cell) != found.get(cell)}
        told = "; ".join(
            f"{op.text} said {op.answer} [{op.began}..{op.ended if op.ended < model.FOREVER else ''}]"
            for op in self.ops
        )
        return f"no order explains it: {told}; changed: {differ}"

    def points_of(self, verb, pool):
        """How many kill points a verb passes here when nobody is in its way."""
        self.ops, self.engaged = [], set()
        self.outcome = Outcome("")
        start = dict(self.state)
        for actor in self.actors.values():
            actor.fresh()
        op = self.begin("A", verb, pool, HUGE)
        self.finish(self.outcome)
        self.judge(start, self.outcome)
        if self.outcome.faults:
            raise AssertionError(f"{verb}@{pool} alone: {self.outcome.faults}")
        return op.points


def _parts(answer):
    return [part for item in answer for part in (item if isinstance(item, list) else [item])]


def _is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
