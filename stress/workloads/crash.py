"""Workers killed and stopped at random instants, with writers, readers and a watcher.

Guest 0 is the killer: it forks the victims (writers and readers), kills one or several of them at a
random instant, also right after the fork, stops some, most for a moment and some for seconds, reaps
them and forks the next. Guest 1 is the watcher: never killed, it reads everything, measures waits
and calls `eng.check(frozen=True)`. The other guests are writers that the crew restarts when the
supervisor kills them. What a page may be is known from a ledger that outlives its writer
(`stress/ledger.py`).

Settings: writers, readers, pages, ranges, range_pages, kill_every_ms, stop_every_ms, stop_ms_max,
spawn_kill_every_ms, wait_ms_max. Facts: kills, stops, stopped_ms_max, recoveries, wait_ms_max,
wait_ms_max_stopped.
"""
from __future__ import annotations

import ctypes
import os
import random
import signal
from time import monotonic_ns, sleep

import engine
from stress import board as words
from stress.board import Board
from stress.content import Oid, describe
from stress.ledger import Ledger
from stress.violation import Violation
from stress.worker import STOP_TIME, Guest, guard

POOL = "crash"
PR_SET_PDEATHSIG = 1            # from <linux/prctl.h>
KILLED_STOPPED = 0.3            # of those that were stopped are killed and do not go on
END_WAIT_S = 20.0               # a victim that does not end by itself after so long hangs


class Handles:
    """Writer and number -> ledger entry, oid, index, count of pages."""

    def __init__(self, settings, writers: int):
        self.pages, self.ranges, self.range_pages = settings["pages"], settings["ranges"], settings["range_pages"]
        self.each = self.pages + self.ranges
        self.total = writers * self.each

    def of(self, writer: int, number: int) -> tuple[int, Oid, int, int]:
        entry = writer * self.each + number
        if number < self.pages:
            return entry, (writer, number // 4, 13), number * 23, 1
        return entry, (writer, number, 17), 62, self.range_pages

    def any(self, rng) -> tuple[int, Oid, int, int]:
        writer, number = divmod(rng.randrange(self.total), self.each)
        return self.of(writer, number)


def rows(plan) -> int:
    """Rows of the board: the crew, then the victims."""
    return plan.workers + plan.settings["writers"] + plan.settings["readers"]


def _writers(plan) -> int:
    """Writers among the victims, then one for each process the crew restarts."""
    return plan.settings["writers"] + max(0, plan.workers - 2)


def prepare(eng, plan) -> None:
    eng.new_pool(POOL, persistent=True, shared=True)
    Ledger(plan.folder, Handles(plan.settings, _writers(plan)).total).close()


def guest(g: Guest) -> None:
    if g.index == 0:
        Killer(g).run()
    elif g.index == 1:
        watch(g)
    else:
        g.row[words.INCARNATIONS] += 1
        write(g, g.settings["writers"] + g.index - 2)


def tick(run) -> None:
    """Called by the supervisor while the crew works: kills a restarted process now and then."""
    now = monotonic_ns()
    board: Board = run.board
    if not run.scratch:
        run.scratch = {"rng": random.Random(f"{run.plan.seed}/spawn"), "at": now}
    mean = run.plan.settings["spawn_kill_every_ms"] * 1e6
    started = board.control[words.START]
    if (now < run.scratch["at"] or not started or board.control[words.STOP]
            or now > started + run.plan.seconds * 9e8):
        return
    run.scratch["at"] = now + int(run.scratch["rng"].expovariate(1 / mean))
    restarted = {row[words.PID] for row in board.rows[2:run.plan.workers]}
    for process in run.crew:
        if process.pid in restarted and process.is_alive():
            board.control[words.SPAWN_KILLS] += 1
            process.kill()


def verdict(run) -> None:
    board, plan = run.board, run.plan
    stats = run.eng.stats()["total"]
    run.facts.update(
        kills=board.control[words.KILLS], kills_of_spawned=board.control[words.SPAWN_KILLS],
        restarted=run.crew.restarts, stops=board.control[words.STOPS_BEGUN], recoveries=stats["recoveries"],
        wait_ms_max=round(max(row[words.WAIT_MAX] for row in board.rows) / 1e6, 2),
        wait_ms_max_stopped=round(max(row[words.WAIT_MAX_STOPPED] for row in board.rows) / 1e6, 2))
    if run.violations:
        return
    run.expect(run.facts["wait_ms_max"] <= plan.settings["wait_ms_max"], "hang", "arena",
               f"a call waited {run.facts['wait_ms_max']} ms with nobody stopped")
    # Who waits for one that is stopped goes on when that one does; two are stopped at a time, one
    # may follow on the other.
    limit = 2 * plan.settings["stop_ms_max"] + plan.settings["wait_ms_max"]
    run.expect(
        run.facts["wait_ms_max_stopped"] <= limit,
        "hang",
        "arena",
        f"a call waited {run.facts['wait_ms_max_stopped']} ms, and nobody was stopped for more than "
        f"{plan.settings['stop_ms_max']} ms",
    )
    handles, ledger = Handles(plan.settings, _writers(plan)), Ledger(plan.folder)
    g = Guest(run.eng, plan, 1, board, stream=1)
    pool = run.eng.pool(POOL)
    for writer in range(_writers(plan)):
        for number in range(handles.each):
            entry, oid, index, count = handles.of(writer, number)
            ledger.settle(entry, _read(g, pool, oid, index, count), f"at the end, {describe(oid, index)}")
            g.flush_object(pool, oid) if count > 1 else g.flush(pool, oid, index)
    ledger.close()
    for other in run.eng.pools():
        if other.name != POOL:
            other.destroy()                         # its owner was killed
    run.expect(pool.obj_count == 0, "leaked", f"pool {POOL}", f"{pool.obj_count} objects after everything was flushed")
    total = run.eng.stats()["total"]
    run.expect(total["pages"] == 0, "leaked", "arena", f"{total['pages']} pages after everything was flushed")
    run.facts.update(lost=0, torn=0, leaked=0)


# -- the watcher, readers and writers -------------------------------------------------------------


def watch(g: Guest) -> None:
    """Never killed: reads, and now and then has the whole arena checked."""
    handles, ledger, pool = Handles(g.settings, _writers(g.plan)), Ledger(g.plan.folder), g.pool(POOL)
    next_check = monotonic_ns() + 500_000_000
    while g.running():
        _read_any(g, pool, handles, ledger)
        if monotonic_ns() > next_check:
            report = g.call("check", g.eng.check, False, False, True)      # frozen: all of it
            g.expect(
                report.ok, "check", "arena, during the kills", str([str(problem) for problem in report.problems[:5]])
            )
            next_check = monotonic_ns() + 1_000_000_000
        if not g.row[words.OPS] % 16:
            sleep(0.001)                            # leaves the cores to the victims


def read(g: Guest) -> None:
    """A reader among the victims."""
    handles, ledger, pool = Handles(g.settings, _writers(g.plan)), Ledger(g.plan.folder), g.pool(POOL)
    while g.running():
        _read_any(g, pool, handles, ledger)


def write(g: Guest, writer: int) -> None:
    """A writer; first it finds what the one before it, killed, has left."""
    handles, ledger, pool = Handles(g.settings, _writers(g.plan)), Ledger(g.plan.folder), g.pool(POOL)
    own = [handles.of(writer, number) for number in range(handles.each)]
    for entry, oid, index, count in own:
        ledger.settle(entry, _waited(g, _read, g, pool, oid, index, count), f"after a kill, {describe(oid, index)}")
    while g.running():
        entry, oid, index, count = g.rng.choice(own)
        what = g.rng.random()
        if what < 0.80:
            version = ledger.begin(entry, True)
            put = g.put_range if count > 1 else _put_page
            arguments = (pool, oid, index, count, version) if count > 1 else (g, pool, oid, index, version)
            ledger.end(entry, _waited(g, put, *arguments))
        elif what < 0.97:
            ledger.begin(entry, False)
            if count > 1:
                _waited(g, g.flush_object, pool, oid)
            else:
                _waited(g, g.flush, pool, oid, index)
            ledger.end(entry, False)
        elif what < 0.99:
            _read_any(g, pool, handles, ledger)
        else:
            _do_seldom(g, writer)


def _put_page(g: Guest, pool, oid, index, version) -> bool:
    return g.put(pool, oid, index, version)


def _do_seldom(g: Guest, writer: int) -> None:
    """What a worker does now and then, so that kills hit it as well."""
    what = g.rng.random()
    if what < 0.7:
        _use_own_pool(g, writer)
    elif what < 0.85:
        engine.attach(g.eng.name).close()
    elif what < 0.95:
        g.eng.stats()
    elif what < 0.98:
        g.eng.recover()
    else:
        report = _waited(g, g.call, "check", g.eng.check, False, False, True)
        g.expect(report.ok, "check", "arena, during the kills", str(report.problems[:5]))


def _use_own_pool(g: Guest, writer: int) -> None:
    """A private ephemeral pool that comes, is used and goes; its last owner may have left it half
    way."""
    name = f"victim-{writer}"
    try:
        pool = g.eng.new_pool(name, shared=False, client=writer)
    except engine.PoolExists:
        pool = g.eng.pool(name)
    for index in range(70):
        _waited(g, _put_page, g, pool, (1, 2, 3), index, g.fresh())
    for index in range(0, 70, 3):
        _waited(g, g.read, pool, (1, 2, 3), index)
    _waited(g, g.call, "pool", pool.destroy)


def _read(g: Guest, pool, oid, index, count) -> int:
    return g.read_range(pool, oid, index, count) if count > 1 else g.read(pool, oid, index)


def _read_any(g: Guest, pool, handles: Handles, ledger: Ledger) -> None:
    entry, oid, index, count = handles.any(g.rng)
    before = ledger.before(entry)
    got = _waited(g, _read, g, pool, oid, index, count)
    ledger.judge(entry, before, got, f"pool {POOL} {describe(oid, index)}")


def _waited(g: Guest, function, *args):
    """Call, and keep the longest wait; apart, if a process was stopped meanwhile, since others wait
    for its lock."""
    control = g.board.control
    ended = control[words.STOPS_ENDED]
    result = function(*args)
    word = words.WAIT_MAX_STOPPED if control[words.STOPS_BEGUN] > ended else words.WAIT_MAX
    waited = g.ended - g.began
    if waited > g.row[word]:
        g.row[word] = waited
    return result


class Victim(Guest):
    """A fork of the killer: it works until it is told to stop."""

    def running(self) -> bool:
        return not self.board.control[words.STOP]


# -- the killer -----------------------------------------------------------------------------------


class Killer:
    """Forks victims, kills, stops, reaps. A victim's role is its row of the board."""

    def __init__(self, g: Guest):
        self.g = g
        writers, readers = g.settings["writers"], g.settings["readers"]
        self.roles = range(g.plan.workers, g.plan.workers + writers + readers)
        self.pids: dict[int, int] = {}  # role -> pid
        self.stopped: dict[
            int, tuple[int, int]
        ] = {}  # pid -> monotonic ns at which it was stopped, and at which it goes on
        self.next_stop = 0
        self.born = 0
        self.ending = False
        self.pid = os.getpid()
        self.prctl = ctypes.CDLL(None).prctl

    def run(self) -> None:
        g = self.g
        try:
            for role in self.roles:
                self.fork(role)
            while g.running() and not (g.plan.ops and g.board.total(words.OPS) >= g.plan.ops * g.plan.workers):
                sleep(g.rng.expovariate(1000 / g.settings["kill_every_ms"]))
                self.act()
                self.stop(monotonic_ns())
                self.resume(monotonic_ns())
                self.reap(again=True)
        finally:
            self.end()

    def fork(self, role: int) -> None:
        self.born += 1
        pid = os.fork()
        if pid:
            self.pids[role] = pid
            return
        code = 1
        try:
            self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)        # a victim never outlives its killer
            if os.getppid() != self.pid:
                return
            os.nice(5)                              # the killer comes first, or it would seldom get to kill
            g = Victim(self.g.eng, self.g.plan, role, self.g.board, stream=self.born, content=self.g.content)
            writer = role - g.plan.workers
            if writer < g.settings["writers"]:
                code = not guard(g, write, writer)
            else:
                code = not guard(g, read)
        finally:
            os._exit(code)

    def act(self) -> None:
        """One thing that happens to the victims."""
        rng = self.g.rng
        roles = [role for role, pid in self.pids.items() if pid not in self.stopped]
        if not roles:
            return
        what, role = rng.random(), rng.choice(roles)
        if what < 0.68:
            self.kill(role)
        elif what < 0.81:
            for each in rng.sample(roles, min(3, len(roles))):
                self.kill(each)
        else:
            self.kill(role)                         # and the next one right after its fork
            self.reap(again=True, wait_for=role)
            until = monotonic_ns() + rng.randrange(1_500_000)
            while monotonic_ns() < until:
                pass
            self.kill(role)

    def stop(self, now: int) -> None:
        """Stop a victim now and then: most for a moment, few for as long as any, but the first of a
        run for long in any case."""
        g, rng = self.g, self.g.rng
        pids = [pid for pid in self.pids.values() if pid not in self.stopped]
        if now < self.next_stop or len(self.stopped) >= 2 or not pids:
            return
        part = rng.random() ** 4 if self.next_stop else 1.0
        length = min(part * g.settings["stop_ms_max"] * 1e6, g.plan.seconds * 5e8)
        pid = rng.choice(pids)
        g.board.control[words.STOPS_BEGUN] += 1
        os.kill(pid, signal.SIGSTOP)
        self.stopped[pid] = now, now + int(length)
        self.next_stop = now + int(rng.expovariate(1 / g.settings["stop_every_ms"]) * 1e6)

    def kill(self, role: int) -> None:
        os.kill(self.pids[role], signal.SIGKILL)    # not reaped yet, so the pid is still its own
        self.g.board.control[words.KILLS] += 1

    def resume(self, now: int) -> None:
        """Let those whose time has come go on; some do not live to see it."""
        for pid, (since, until) in list(self.stopped.items()):
            if now >= until:
                del self.stopped[pid]
                if pid in self.pids.values():
                    facts = self.g.facts
                    facts["stopped_ms_max"] = max(facts.get("stopped_ms_max", 0), round((monotonic_ns() - since) / 1e6))
                    dies = self.g.rng.random() < KILLED_STOPPED and not self.ending
                    os.kill(pid, signal.SIGKILL if dies else signal.SIGCONT)
                    self.g.board.control[words.KILLS] += dies
                self.g.board.control[words.STOPS_ENDED] += 1

    def reap(self, again: bool, wait_for: int = -1) -> None:
        """Bury the dead and fork their successors; a victim that ended by itself is a violation."""
        for role, pid in list(self.pids.items()):
            dead, status = os.waitpid(pid, 0 if role == wait_for else os.WNOHANG)
            if not dead:
                continue
            del self.pids[role]
            if self.stopped.pop(pid, None) is not None:
                self.g.board.control[words.STOPS_ENDED] += 1
            code = os.waitstatus_to_exitcode(status)
            if code not in (0, -signal.SIGKILL) or (not code and again and not self.g.board.control[words.STOP]):
                raise Violation("died", f"victim {role}", f"ended with {code}")
            if again:
                self.fork(role)

    def end(self) -> None:
        """Let the victims end by themselves; what does not end hangs."""
        g = self.g
        if not g.board.control[words.STOP]:
            g.board.control[words.STOP] = STOP_TIME
        self.ending = True
        self.resume(1 << 63)
        until = monotonic_ns() + int(END_WAIT_S * 1e9)
        while self.pids and monotonic_ns() < until:
            self.reap(again=False)
            sleep(0.002)
        hanging = dict(self.pids)
        for pid in hanging.values():
            os.kill(pid, signal.SIGUSR1)            # writes its Python stack to the killer's trace
            sleep(0.1)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if hanging:
            raise Violation("hang", f"victims {list(hanging)}", f"still in a call {END_WAIT_S} s after the end")
