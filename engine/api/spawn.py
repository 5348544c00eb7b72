"""Owns starting worker processes: Engine.spawn and the Crew it gives.

Every process attaches first (its arguments are unpickled, and the arena opened by name), says that
it is ready, and waits; when all have, all run.

A crew does not outlive its parent. Each process has the reading end of a pipe, the gate, whose
sending end is the parent's alone: the kernel closes it however the parent ends. Before the release
a process waits at the gate; after it, the kernel sends it SIGTERM when the gate falls
(`_end_with`). So that nobody else has the sending end, a forked child closes it, in a hook, before
any other code of its own; a fork waits for whoever is between making a gate and noting it.
Rejected: PR_SET_PDEATHSIG (it fires when the *thread* that forked ends, and the keeper is one); a
watching thread (one that runs only with the GIL, and a fork of a process with threads is a warning
since Python 3.12); multiprocessing's own sentinel of the parent, and a semaphore to count who is
ready (siblings that are forked later inherit the one; the other is told as leaked when its parent
is killed).
"""
import contextlib
import fcntl
import math
import multiprocessing
import os
import select
import signal
import struct
import threading
import time
import weakref
from collections.abc import Sequence

from engine.errors import TmemError
from engine.sizes import whole

METHODS = ("spawn", "fork", "forkserver")
READY_S = 120.0
LOOK_S = 0.2                # between two looks at who lives, where nothing wakes the one who looks
# A process that ends badly is replaced after a pause, twice as long each time, unless it had run
# for RAN_S; so many short lives in a row are the end of it.
PAUSE_S = 0.1
PAUSE_MAX_S = 5.0
RAN_S = 5.0
SHORT_LIVES_MAX = 8

_gates = weakref.WeakSet()
_gates_lock = threading.RLock()     # a fork takes it: re-entered, since a signal handler may fork


def _after_fork_in_child():
    for gate in list(_gates):
        gate.close()
    _gates.clear()
    _gates_lock.release()


os.register_at_fork(
    before=_gates_lock.acquire, after_in_parent=_gates_lock.release, after_in_child=_after_fork_in_child
)


def _released(go, parent):
    """Wait at the gate: True when it opens, False if the parent (of this pid, if it is one of the
    system's too) ends instead."""
    poll = select.poll()
    poll.register(go.fileno(), select.POLLIN)
    while True:
        for _, event in poll.poll(1000):
            return bool(event & select.POLLIN)      # one message for all: nobody reads it, so nobody can take it away
        if parent is not None and os.getppid() != parent:
            return False


def _end_with(go):
    """Have SIGTERM sent to this process when the gate's last sending end is closed. False if it is
    already."""
    # An opening of its own: those that were inherited or passed on are one and the same for the
    # kernel, with one owner to be told.
    fd = os.open(f"/proc/self/fd/{go.fileno()}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | fcntl.FASYNC)
    go.close()
    poll = select.poll()
    poll.register(fd, 0)
    return not poll.poll(0)         # POLLHUP: it fell before it was watched


def _run(engine, client, place, ready, go, parent, target, args):
    # `engine` and `args` were unpickled, or inherited by fork: touching the engine makes this
    # process a worker.
    engine._act_for(client)
    engine.stats()
    try:
        if ready is not None:
            with contextlib.suppress(OSError):      # the parent has gone, or waits no longer
                ready.send_bytes(struct.pack("<I", place))
            ready.close()
        if _released(go, parent) and _end_with(go):
            target(*args)
    finally:
        engine.close()


def spawn(engine, n, target, args, restart, method, client):
    """See Engine.spawn."""
    number = whole(n)
    if number is None:
        raise TypeError(f"n: a number of processes, not {type(n).__name__}")
    if number < 1:
        raise ValueError(f"n: at least one process, not {number}")
    if not callable(target):
        raise TypeError(f"target: a callable, not {type(target).__name__}")
    if not isinstance(restart, bool):
        raise TypeError(f"restart: True or False, not {type(restart).__name__}")
    if method is not None and method not in METHODS:
        raise ValueError(f"method: None or one of {', '.join(METHODS)}, not {method!r}")
    if engine.closed:
        raise TmemError(f"arena {engine.name!r}: this engine is closed")
    return Crew(engine, client, number, target, args, restart, multiprocessing.get_context(method or "spawn"))


def pause_before(short_lives):
    """Seconds to wait before a process is replaced, by how many in its place have ended soon after
    they began, in a row."""
    return min(PAUSE_MAX_S, PAUSE_S * 2 ** (short_lives - 1)) if short_lives > 0 else 0.0


def _wait(ends, seconds):
    """Wait until one of some pipes and sentinels has something to tell, but no longer than that. It
    does what multiprocessing.connection.wait does; who only imports engine is spared that module,
    which takes a tenth of the time."""
    listening = select.poll()
    for end in ends:
        listening.register(end, select.POLLIN)
    listening.poll(math.ceil(seconds * 1000))


class _Place:
    """One place of a crew that is kept full: when its process began, and what became of those
    before."""

    def __init__(self):
        self.began = time.monotonic()
        self.exitcodes = []         # of the short lives in a row
        self.due = None             # when the next process is to begin; None: one runs, or has ended well
        self.failures = 0           # of starting it, in a row

    def ended(self, exitcode, now):
        """Note that its process has ended badly. False if that was one too many."""
        self.exitcodes = [*self.exitcodes, exitcode] if now - self.began < RAN_S else [exitcode]
        self.due = now + pause_before(len(self.exitcodes))
        return len(self.exitcodes) < SHORT_LIVES_MAX


class Crew(Sequence):
    """Worker processes that started together: a sequence of them. A context manager that joins
    (terminates on error).

    They end with their parent: when it has ended, however it did, each gets SIGTERM at once. One
    that ignores that goes on.
    restart=True: who ends with an exit code other than 0 is replaced, after a pause that doubles
    from 0.1 s to 5 s as long as those in its place end within 5 s; also where the system has no
    process to give. Eight such short lives in a row, and nobody is replaced any more, and join
    raises.
    restarts: how many were replaced so far."""

    def __init__(self, engine, client, n, target, args, restart, context):
        self._engine = engine
        self._client = client
        self._target = target
        self._args = args
        self._context = context
        # A server forks for some: then the parent of the process is not this one, for the system.
        self._parent = None if context.get_start_method() == "forkserver" else os.getpid()
        self._closing = False
        self._keeper = None
        self._restart = restart
        self._failure = None
        self.restarts = 0
        with _gates_lock:
            self._go, self._gate = context.Pipe(duplex=False)
            _gates.add(self._gate)
        self._processes = []
        told, ready = context.Pipe(duplex=False)
        try:
            with told, ready:
                for place in range(n):
                    self._processes.append(self._start(place, ready))
                self._await_ready(told)
            self._open_gate()
        except BaseException:
            self._end("kill")
            raise
        if restart:
            self._places = [_Place() for _ in range(n)]
            self._keeper = threading.Thread(target=self._keep, name="tmem-crew", daemon=True)
            self._keeper.start()

    def _start(self, place=None, ready=None):
        process = self._context.Process(
            target=_run,
            args=(self._engine, self._client, place, ready, self._go, self._parent, self._target, self._args),
        )
        process.start()
        # multiprocessing keeps a process that runs, and with it the gate, also if nobody keeps the
        # crew.
        process._gate = self._gate
        return process

    def _await_ready(self, told):
        """Wait until each is attached, or has died before it was."""
        deadline = time.monotonic() + READY_S
        missing = set(range(len(self._processes)))
        while missing and time.monotonic() < deadline:
            _wait([told, *(self._processes[place].sentinel for place in missing)], LOOK_S)
            missing -= {place for place in missing if self._processes[place].exitcode is not None}
            while told.poll(0):
                missing.discard(struct.unpack("<I", told.recv_bytes())[0])

    def _open_gate(self):
        self._gate.send(True)

    # --- replacing who ends badly, in a thread of its own -----------------------------------------

    def _keep(self):
        try:
            while not self._closing and self._failure is None and any(p.exitcode != 0 for p in self._processes):
                alive = [p for p in self._processes if p.exitcode is None]
                _wait([p.sentinel for p in alive], self._look_again())
                for place in range(len(self._processes)):
                    self._replace(place)
        except BaseException as error:
            self._failure = error

    def _look_again(self):
        """Seconds until somebody may have to be replaced of whom no sentinel will tell."""
        due = [place.due - time.monotonic() for place in self._places if place.due is not None]
        return max(0.0, min([LOOK_S, *due]))

    def _replace(self, number):
        place, process, now = self._places[number], self._processes[number], time.monotonic()
        if self._closing or self._failure is not None or process.exitcode in (None, 0):
            return
        if place.due is None and not place.ended(process.exitcode, now):
            codes = ", ".join(map(str, place.exitcodes))
            self._failure = TmemError(
                f"arena {self._engine.name!r}: process {number} of a crew ended "
                f"{len(place.exitcodes)} times in a row within {RAN_S:g} s, with "
                f"exit codes {codes}; nobody is replaced any more"
            )
        elif place.due is not None and now >= place.due:
            try:
                self._processes[number] = self._start()
            except OSError:         # no process, memory or descriptor to be had just now
                place.failures += 1
                place.due = now + pause_before(place.failures)
            else:
                self.restarts += 1
                place.began, place.due, place.failures = time.monotonic(), None, 0

    def __len__(self):
        return len(self._processes)

    def __getitem__(self, i):
        return self._processes[i]

    @property
    def exitcodes(self):
        """Exit code of each process, None while it runs."""
        return [p.exitcode for p in self._processes]

    def join(self, timeout=None):
        """Wait for all to end. True if they did within `timeout` seconds. With restart=True: to end
        well, that is with exit code 0; raises TmemError, which names the exit codes, as soon as
        nobody is replaced any more (those that run go on)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._keeper is not None and not self._closing:
            self._keeper.join(timeout)
            if self._failure is not None:
                raise TmemError(f"the crew is not kept any more: {self._failure}") from self._failure
            return not self._keeper.is_alive() and self._all_well()
        for process in self._processes:
            process.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self._all_well() if self._restart else all(p.exitcode is not None for p in self._processes)

    def _all_well(self):
        return all(p.exitcode == 0 for p in self._processes)

    def _end(self, how):
        self._closing = True
        if self._keeper is not None:
            self._keeper.join()
        for process in self._processes:
            if process.exitcode is None:
                getattr(process, how)()
        for process in self._processes:
            process.join()

    def terminate(self):
        """End all with SIGTERM, and wait for them; none is replaced."""
        self._end("terminate")

    def kill(self):
        """End all with SIGKILL, and wait for them; none is replaced."""
        self._end("kill")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self.terminate()
            return
        try:
            self.join()
        except BaseException:
            self.terminate()
            raise
