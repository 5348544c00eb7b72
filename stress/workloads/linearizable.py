"""Players on few hot pages record every call and answer, and are killed at random; every page's
history is searched for an order.

A guest is a keeper: it forks players, kills one at random, keeps what that one recorded, and forks
the next. Now and then a player chooses one of its next kill points, to stand still there for a
moment, or to die. Time is cut into rounds: all players begin one at the same instant, on pages that
nobody had before, and leave a page alone after so many calls, so that a history begins with nothing
and is short enough to be searched (`stress/search.py`). Beside pages there are values, which are
put and dropped under conditions, counts, and both again in a cache (`stress/cached.py`). Some live
a few milliseconds; now and then a player clears a whole pool, which is a call on all that is in it.
A record lies in a mapped file: what was called is there before the call, what was answered after
it, so a killed player leaves its last call without an answer; it may have happened until the player
was seen to be dead. A persistent and an ephemeral pool, both shared; the arena is small, and
ballast makes ephemeral pages go. Keepers flush pages of rounds that are over, and that is recorded
too.

Settings: players, handles, values, counts, cached, cached_counts, round_ms, history_ops,
kill_every_ms, stand, clear, ballast, histories_per_second.
Facts: kills, stops, cut_off (calls without an answer), histories, operations, lives (operations
that gave a value an end), clears, longest, swapped_refused: histories in which two answers were
exchanged, and revived_refused: in which a get got what had gone; the search must refuse each, or it
is deaf; undecided: histories of which so many calls were under way at once that they have too many
orders.
"""
from __future__ import annotations

import contextlib
import os
import signal
from bisect import bisect_left
from collections import defaultdict
from pathlib import Path
from time import monotonic_ns, sleep

import engine
from stress import board as words
from stress.board import Words
from stress.cached import LIVES_MS, CachedValues, life_of
from stress.content import MIN_BYTES
from stress.search import (
    CLEAR,
    DIFFERS,
    DONE,
    DROP,
    EXPECTED_SHIFT,
    FAILED,
    FLUSH,
    GET,
    INCR,
    PUT,
    SWAP,
    TAKE,
    TOUCH,
    UNKNOWN,
    Raw,
    Undecided,
    revived,
    search,
    swapped,
)
from stress.worker import Guest, guard

POOLS = ("linear-persistent", "linear-ephemeral")
BALLAST = "linear-ballast"
BALLAST_PAGES = 3000            # more than the arena has room for
ROUNDS_KEPT = 8                 # a page is flushed so many rounds after its own
SWAPS_MAX = 25
COUNT, VERSION = 0, 1           # words of a log before its records
HEAD_WORDS = 8
RECORD_WORDS = 9                # called, ended, round, pool and page, kind, version, answer and 1, expected, life
LOOK_S = 0.001                  # between two looks at the players
NEVER = 1 << 63
POINTS_AHEAD = 60               # a put has some 20
ALL = 1 << 20                   # the page of a call that is about a whole pool
RECORDS = 1 << 15


class Log(Words):
    """What one player calls and is answered. Written by that player alone; read when it is dead."""

    def __init__(self, folder: str, row: int, new: bool = False):
        super().__init__(Path(folder) / f"log-{row}", HEAD_WORDS + RECORDS * RECORD_WORDS if new else 0)

    def fresh(self) -> int:
        self.words[VERSION] += 1
        return self.words[VERSION]

    def begin(self, at: int, number: int, page: int, kind: int, version: int = 0, expected: int = 0,
              life_ns: int = 0) -> None:
        data, base = self.words, HEAD_WORDS + at * RECORD_WORDS
        data[base + 7], data[base + 8] = expected, life_ns
        data[base + 1] = data[base + 6] = 0
        data[base + 2], data[base + 3], data[base + 4], data[base + 5] = number, page, kind, version
        data[base] = monotonic_ns()
        data[COUNT] = at + 1

    def end(self, at: int, answer: int, ended: int, kind: int = UNKNOWN) -> None:
        """`kind`: what the call was, where only its end tells."""
        base = HEAD_WORDS + at * RECORD_WORDS
        if kind != UNKNOWN and kind != self.words[base + 4]:
            self.words[base + 4] = kind
            self.words[base + 8] = 0
        self.words[base + 6] = answer + 1
        self.words[base + 1] = ended

    def drain(self, row: int, died: int) -> list[tuple]:
        """All records, and an empty log; a call without an answer has ended when its player had
        certainly died."""
        found = []
        for base in range(HEAD_WORDS, HEAD_WORDS + self.words[COUNT] * RECORD_WORDS, RECORD_WORDS):
            called, ended, number, page, kind, version, answer, expected, life = self.words[base:base + RECORD_WORDS]
            found.append(
                (
                    (page % 2, number, page // 2),
                    kind,
                    called,
                    ended or died,
                    version | expected << EXPECTED_SHIFT,
                    answer - 1 if ended else UNKNOWN,
                    row,
                    life,
                )
            )
        self.words[COUNT] = 0
        return found


def rows(plan) -> int:
    """Rows of the board: the keepers, then their players."""
    return plan.workers * (1 + plan.settings["players"])


def prepare(eng, plan) -> None:
    for name in POOLS:
        eng.new_pool(name, persistent=name.endswith("persistent"), shared=True)
    eng.new_pool(BALLAST)
    for row in range(rows(plan)):
        Log(plan.folder, row, True).close()


def guest(g: Guest) -> None:
    Keeper(g).run()


def by_handles(records: list[Raw]) -> dict[tuple, list[Raw]]:
    """The histories. The clear of a pool is in each that had begun before it was done, and had not
    ended."""
    found: dict[tuple, list[Raw]] = defaultdict(list)
    clears: list[list[Raw]] = [[], []]
    for op in records:
        (found[op.handle] if op.kind != CLEAR else clears[op.handle[0]]).append(op)
    for ops in clears:
        ops.sort(key=lambda op: op.called_ns)
    longest = [max((op.ended_ns - op.called_ns for op in ops), default=0) for ops in clears]
    for handle, history in found.items():
        began, ended = min(op.called_ns for op in history), max(op.ended_ns for op in history)
        ops = clears[handle[0]]
        for op in ops[bisect_left(ops, began - longest[handle[0]], key=lambda op: op.called_ns):]:
            if op.called_ns > ended:
                break
            if op.ended_ns >= began:
                history.append(op._replace(handle=handle))
    return found


def verdict(run) -> None:
    records, run.history = [Raw(*op) for op in run.history], []
    by_handle = by_handles(records)
    undecided = 0
    tried, refused = {swapped: 0, revived: 0}, {swapped: 0, revived: 0}
    if not any(
        violation["kind"] in ("died", "hang") for violation in run.violations
    ):  # else the histories are not whole
        for handle, history in by_handle.items():
            try:
                refusal = search(history, ephemeral=handle[0] == 1)
            except Undecided:
                undecided += 1
                continue
            if refusal is not None:
                run.expect(False, "history", f"pool {POOLS[handle[0]]}", str(refusal))
                break
            for change in tried:
                wrong = change(history) if tried[change] < SWAPS_MAX else None
                if wrong is not None:
                    with contextlib.suppress(Undecided):
                        refused[change] += search(wrong, ephemeral=handle[0] == 1) is not None
                        tried[change] += 1
    run.expect(
        undecided * 2 <= len(by_handle),
        "canary",
        "histories that were searched",
        f"{undecided} of {len(by_handle)} have too many orders: there are too many players for so few pages",
    )
    run.expect(
        tried == refused,
        "canary",
        "two answers of a history exchanged, or one that came back",
        f"{[tried[one] - refused[one] for one in tried]} of {list(tried.values())} were not noticed",
    )
    run.facts.update(
        histories=len(by_handle),
        operations=len(records),
        cut_off=sum(op.answer == UNKNOWN for op in records),
        longest=max(map(len, by_handle.values()), default=0),
        lives=sum(op.life_ns != 0 for op in records),
        clears=sum(op.kind == CLEAR for op in records),
        swapped_refused=refused[swapped],
        revived_refused=refused[revived],
        undecided=undecided,
    )


class Keeper:
    """Forks players, kills them, and keeps what they recorded."""

    def __init__(self, g: Guest):
        self.g = g
        count = g.settings["players"]
        self.rows = range(g.plan.workers + g.index * count, g.plan.workers + (g.index + 1) * count)
        self.pids: dict[int, int] = {}
        self.logs = {row: Log(g.plan.folder, row) for row in (g.index, *self.rows)}
        self.caches = [g.cache(name) for name in POOLS]
        self.flushed, self.calls, self.kills, self.stops = 0, 0, 0, 0
        self.looking = False
        self.stand_until: dict[int, int] = {}       # of players that stand still
        self.ended: dict[int, int] = {}             # exit codes of players that were not killed from here
        self.pid = os.getpid()

    def run(self) -> None:
        g = self.g
        signal.signal(signal.SIGALRM, self.look_after)
        signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
        try:
            for row in self.rows:
                self.fork(row)
            while g.running() and not (g.plan.ops and self.ops() >= g.plan.ops):
                sleep(g.rng.expovariate(1000 / g.settings["kill_every_ms"]))
                self.flush_old()
                for row in list(self.ended):
                    self.bury(row, self.ended.pop(row), again=True)
                if not self.kill(g.rng.choice(self.rows), again=True):
                    break
        finally:
            for row in self.rows:
                self.kill(row, again=False)
            signal.setitimer(signal.ITIMER_REAL, 0)
        g.history += self.logs[g.index].drain(g.index, monotonic_ns())
        g.facts.update(kills=self.kills, stops=self.stops)

    def ops(self) -> int:
        return sum(self.g.board.rows[row][words.OPS] for row in self.rows)

    def fork(self, row: int) -> None:
        self.calls += 1
        pid = os.fork()
        if pid:
            self.pids[row] = pid
            return
        code = 1
        try:
            g = Guest(self.g.eng, self.g.plan, row, self.g.board, stream=self.calls, content=self.g.content)
            code = not guard(g, Player(self.logs[row], self.pid).play)
        finally:
            os._exit(code)

    def look_after(self, *_) -> None:
        """Let players that stand at a kill point go on after a while, and note who has died at one.
        From a signal, since a call of the keeper's own may wait for one that stands."""
        if self.looking:
            return                      # the signal came again
        self.looking = True
        for row, pid in list(self.pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if found and os.WIFSTOPPED(status):
                self.stand_until[row] = monotonic_ns() + self.g.rng.choice(LIVES_MS) * 1_500_000
                self.stops += 1
            elif found:
                del self.pids[row]
                self.ended[row] = os.waitstatus_to_exitcode(status)
            elif monotonic_ns() > self.stand_until.get(row, NEVER):
                del self.stand_until[row]
                os.kill(pid, signal.SIGCONT)
        self.looking = False

    def kill(self, row: int, again: bool) -> bool:
        """Kill a player, keep its records, fork the next one. False if it had ended by itself
        before its time."""
        pid = self.pids.pop(row, 0)
        if pid:
            os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        elif row in self.ended:
            code = self.ended.pop(row)
        else:
            return False
        self.bury(row, code, again)
        return True

    def bury(self, row: int, code: int, again: bool) -> None:
        """Of a player that is dead keep the records; fork the next one."""
        g = self.g
        self.stand_until.pop(row, None)
        self.kills += code == -signal.SIGKILL
        g.history += self.logs[row].drain(row, monotonic_ns())
        if code > 0 and not g.board.control[words.STOP]:
            g.expect(False, "died", f"guest {g.index}", f"a player ended with {code}")
        if again and code < 0:
            self.fork(row)

    def flush_old(self) -> None:
        """Pages of rounds that are over; their histories end with it."""
        g, log = self.g, self.logs[self.g.index]
        last = round_of(g) - ROUNDS_KEPT
        for number in range(self.flushed, last):
            if number % g.plan.workers != g.index:
                continue
            for page in range(pages_of(g)):
                recorded = is_recorded(g, number)
                at = log.words[COUNT]
                if at >= RECORDS:
                    g.history += log.drain(g.index, monotonic_ns())
                    at = 0
                if recorded:
                    log.begin(at, number, page, FLUSH)
                if is_cached(g, page):
                    found = g.call("flush", self.caches[page % 2].delete, (number, page))
                else:
                    found = g.flush(g.pool(POOLS[page % 2]), (number, page, 9), 0)
                if recorded:
                    log.end(at, int(found), monotonic_ns())
        self.flushed = max(last, self.flushed)


def round_of(g: Guest) -> int:
    return int((monotonic_ns() - g.board.control[words.START]) / (g.settings["round_ms"] * 1e6))


def pages_of(g: Guest) -> int:
    """Pages, values and counts of a round: of even numbers those of the persistent pool."""
    return 2 * sum(g.settings[name] for name in ("handles", "values", "counts", "cached", "cached_counts"))


def is_cached(g: Guest, page: int) -> bool:
    return page // 2 >= sum(g.settings[name] for name in ("handles", "values", "counts"))


def is_recorded(g: Guest, number: int) -> bool:
    """Whether the histories of a round are recorded: a part of all rounds, evenly spread."""
    every = pages_of(g) * 1000 / (g.settings["round_ms"] * g.settings["histories_per_second"])
    return every <= 1 or int(number / every) != int((number - 1) / every)


class Player:
    """One fork's moves, until it is killed."""

    def __init__(self, log: Log, keeper: int):
        self.log, self.keeper = log, keeper
        self.seen: dict[int, tuple[int, int]] = {}      # of each value of this round: what it was, in two ways

    def play(self, g: Guest) -> None:
        pools = [g.pool(name) for name in POOLS]
        caches = [CachedValues(g, g.cache(name)) for name in POOLS]
        ballast = g.pool(BALLAST)
        quota = max(1, (g.settings["history_ops"] - 1) // (g.plan.workers * g.settings["players"]))
        number = -1
        while g.running() and os.getppid() == self.keeper:
            now = round_of(g)
            if now == number:
                sleep(0.0002)
                continue
            number, left = now, [quota] * pages_of(g)
            self.seen.clear()
            for cached in caches:
                cached.seen.clear()
            if self.log.words[COUNT] + 2 * sum(left) > RECORDS:
                break                   # until it is killed: what is not recorded must not happen
            while any(left) and round_of(g) == number:
                page = g.rng.choice([page for page, calls in enumerate(left) if calls])
                left[page] -= 1
                if g.rng.random() < g.settings["stand"]:
                    g.eng.set_kill_point(g.rng.randrange(1, POINTS_AHEAD), g.rng.randrange(8) != 0)
                if g.rng.random() < g.settings["clear"]:
                    self.clear(g, pools[page % 2], number, page % 2)
                if is_cached(g, page):
                    self.call_of_cached(g, caches[page % 2], number, page)
                else:
                    self.call(g, pools[page % 2], number, page)
                if g.rng.random() < g.settings["ballast"]:
                    index = g.rng.randrange(BALLAST_PAGES)
                    ballast.put((index % 7, 0, 0), index, g.content.page((index % 7, 0, 0), index, 1))
        while os.getppid() == self.keeper:
            sleep(0.001)                # until the keeper has seen that time is up

    def call(self, g: Guest, pool, number: int, page: int) -> None:
        """One call, recorded before and after."""
        if page // 2 >= g.settings["handles"]:
            self.call_of_object(g, pool, number, page)
            return
        log, oid, what = self.log, (number, page, 9), g.rng.random()
        kind = PUT if what < 0.4 else GET if what < 0.8 else TAKE if what < 0.9 else FLUSH
        version = log.fresh() * 1024 + g.index + 1 if kind == PUT else 0
        length = g.rng.choice((0, 0, MIN_BYTES, 700))
        at, recorded = log.words[COUNT], is_recorded(g, number)
        if recorded:
            log.begin(at, number, page, kind, version)
        if kind == PUT:
            answer = int(g.put(pool, oid, 0, version, length))
        elif kind == FLUSH:
            answer = int(g.flush(pool, oid, 0))
        else:
            answer = g.read(pool, oid, 0, kind == TAKE)
        if recorded:
            log.end(at, answer, monotonic_ns())

    def clear(self, g: Guest, pool, number: int, which: int) -> None:
        """Recorded in every round: it is about all that is in the pool."""
        at = self.log.words[COUNT]
        self.log.begin(at, number, 2 * ALL + which, CLEAR)
        g.call("pool", pool.clear)
        self.log.end(at, DONE, monotonic_ns())

    def call_of_cached(self, g: Guest, cached: CachedValues, number: int, page: int) -> None:
        counts = page // 2 >= pages_of(g) // 2 - g.settings["cached_counts"]
        move = cached.draw((number, page), counts, lambda: self.log.fresh() * 1024 + g.index + 1)
        at, recorded = self.log.words[COUNT], is_recorded(g, number)
        if recorded:
            self.log.begin(at, number, page, move.kind, move.version, move.expected, move.life_ns)
        kind, answer = cached.play(move)
        if recorded:
            self.log.end(at, answer, monotonic_ns(), kind)

    def call_of_object(self, g: Guest, pool, number: int, page: int) -> None:
        """The same of a value or a count."""
        log, oid, what = self.log, (number, page, 9), g.rng.random()
        counts = page // 2 >= g.settings["handles"] + g.settings["values"]
        if counts:
            kind = INCR if what < 0.5 else GET if what < 0.9 else FLUSH
        else:
            kind = (PUT if what < 0.25 else SWAP if what < 0.5 else GET if what < 0.75 else TOUCH if what < 0.8
                    else FLUSH if what < 0.9 else DROP)
        version = log.fresh() * 1024 + g.index + 1 if kind in (PUT, SWAP) else 0
        expected, theirs = self.seen.get(page, (0, 0)) if kind in (SWAP, DROP) else (0, 0)
        if kind == SWAP and g.rng.randrange(3) == 0:
            expected = theirs = 0
        life = life_of(g.rng) if kind in (PUT, SWAP, INCR, TOUCH) else 0
        at, recorded = log.words[COUNT], is_recorded(g, number)
        if recorded:
            log.begin(at, number, page, kind, version, expected, life)
        if kind == INCR:
            answer = self.count(g, pool, oid, life)
        elif kind == TOUCH:
            answer = int(g.call("put", pool.touch, oid, life / 1e9 if life else None))
        elif kind == GET:
            answer = self.look(g, pool, oid, page, counts)
        elif kind == FLUSH:
            answer = int(g.flush_object(pool, oid) if g.rng.randrange(2) else g.call("flush", pool.touch, oid, 0))
        elif kind == DROP:
            answer = said(g.call("flush", pool.flush_object, oid, theirs))
        else:
            answer = self.put(g, pool, oid, version, None if kind == PUT else theirs, life)
        if recorded:
            log.end(at, answer, monotonic_ns())

    def put(self, g: Guest, pool, oid, version: int, theirs: int | None, life: int) -> int:
        data = memoryview(g.content.page(oid, 0, version, g.rng.choice((0, MIN_BYTES, 700))))
        half = len(data) // 2
        parts = [data[:half], data[half:]] if g.rng.randrange(2) else data
        ttl = life / 1e9 if life else None
        answer = said(g.call("put", lambda: pool.put_object(oid, parts, ttl=ttl, if_version=theirs,
                                                            key=b"%d %d" % oid[:2], word=version)))
        return answer % FAILED if theirs is None else answer

    def look(self, g: Guest, pool, oid, page: int, counts: bool) -> int:
        found = g.call("get", pool.get_object, oid, True)
        if found is None:
            return 0
        data, info = found
        if counts:
            return int.from_bytes(data, "little")
        version = g.content.verify(data, oid, 0, f"pool {pool.name} {oid}")
        g.expect((info.key, info.word) == (b"%d %d" % oid[:2], version), "torn", f"pool {pool.name} {oid}",
                 f"version {version} came with key {info.key!r} and word {info.word}")
        self.seen[page] = version, info.version
        return version

    @staticmethod
    def count(g: Guest, pool, oid, life: int) -> int:
        try:
            return g.call("put", pool.incr, oid, 1, 0, life / 1e9 if life else None)
        except engine.ArenaFull:
            return 0


def said(answer) -> int:
    """What an answer under a condition is recorded as."""
    return DIFFERS if answer is engine.CONFLICT else DONE if answer else FAILED
