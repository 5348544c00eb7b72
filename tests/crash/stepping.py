"""Owns stopping a child at one machine instruction of what it calls, by ptrace, and killing it
there. x86-64 Linux only.

`trace` steps a child through a call once and tells which of its instructions can change an arena:
those of the compiled modules, and those of the C library while it is called from them. `die_at`
brings another child, forked from the same process and doing the same, to one of these by a
breakpoint, and kills it before the instruction is executed.
"""
import ctypes
import os
import platform
import signal
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import engine
import shm

TRACEME, PEEKTEXT, PEEKUSER, POKETEXT, POKEUSER, CONT, SINGLESTEP, SYSCALL, SETOPTIONS = 0, 1, 3, 4, 6, 7, 9, 24, 0x4200
EXITKILL = 0x100000         # option: the child does not outlive its tracer
RIP = 16 * 8                # offset of the instruction pointer in the kernel's struct user
SECOND_ARGUMENT, CALLED = 13 * 8, 15 * 8    # as RIP: of a call of the kernel, and its number
INT3 = 0xCC
WORD = (1 << 64) - 1
REFUSED = 77                # exit status of a child that may not be traced
GUARD_S = 60                # a child that hangs gets SIGALRM after so many seconds, and whoever waits for it an error

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class NotAllowedError(Exception):
    """ptrace is refused here."""


class Place(NamedTuple):
    """One moment of a call: `steps` instructions after the `nth` arrival at `address`, and there
    the pointer is `rip`.

    `address` lies in a compiled module; the C library is reached by steps, since the interpreter
    calls it as well."""
    address: int
    nth: int
    steps: int
    rip: int


# --- which code is whose --------------------------------------------------------------------------


def _executable():
    """(start, end, path) of everything this process, and so a child forked from it, can execute."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, *rest = line.split(maxsplit=5)
        if "x" in mode:
            start, end = (int(one, 16) for one in span.split("-"))
            yield start, end, rest[3] if len(rest) > 3 else ""


def code_ranges():
    """(ranges of the compiled modules, ranges of the C library and of the loader that binds calls
    to it)."""
    folders = tuple(f"{Path(one.__file__).resolve().parent}{os.sep}" for one in (engine, shm))
    ours, libc = [], []
    for start, end, path in _executable():
        if path.startswith(folders):
            ours.append((start, end))
        elif os.path.basename(path).startswith(("libc.", "libc-", "ld-linux", "ld-2", "ld-musl")):
            libc.append((start, end))
    assert ours and libc, "whose code is where? not in /proc/self/maps"
    return ours, libc


def name_of(rip):
    """The file that an instruction lies in, and where in it: what `objdump -d` and `addr2line` ask
    for."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(maxsplit=5)
        start, end = (int(one, 16) for one in span.split("-"))
        if start <= rip < end:
            return f"{os.path.basename(path[0]) if path else '?'}+{rip - start + int(offset, 16):#x}"
    return hex(rip)


def why_not():
    """Why nothing can be stepped here, or None."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return f"stepping needs Linux on x86-64, not {sys.platform} on {platform.machine()}"
    if any("libasan" in path for _, _, path in _executable()):
        return "an instrumented build executes other instructions than the one that is used"
    try:
        with stopped(lambda: None, lambda: None) as pid:
            _step(pid)
    except NotAllowedError as error:
        return f"ptrace is refused here: {error}"
    return None


# --- one child ------------------------------------------------------------------------------------


def _request(what, pid, address=0, data=0):
    ctypes.set_errno(0)
    answer = _ptrace(what, pid, address, data)
    error = ctypes.get_errno()
    if answer == -1 and error:
        raise NotAllowedError(f"request {what}: {os.strerror(error)}")
    return answer & WORD


def _wait(pid):
    """The signal that the child has stopped with."""
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        how = os.waitstatus_to_exitcode(status)
        raise NotAllowedError("traceme") if how == REFUSED else ChildProcessError(f"the child is gone: {how}")
    return os.WSTOPSIG(status)


def _rip(pid):
    return _request(PEEKUSER, pid, RIP)


def _step(pid):
    """Execute one instruction. False if the child has stopped by itself instead."""
    _request(SINGLESTEP, pid)
    got = _wait(pid)
    if got not in (signal.SIGTRAP, signal.SIGSTOP):
        raise ChildProcessError(f"the child got signal {got}")
    return got == signal.SIGTRAP


def _child(prepare, act):
    """Prepare, stop, act, stop: what a child does, with nothing between the stops but the call
    itself."""
    me, stop, kill = os.getpid(), signal.SIGSTOP, os.kill
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(GUARD_S)
    prepare()
    if _ptrace(TRACEME, 0, None, None):
        os._exit(REFUSED)
    kill(me, stop)
    act()
    kill(me, stop)


@contextmanager
def stopped(prepare, act):
    """A child that has done prepare() and is about to do act(): its pid. At the end it is killed by
    SIGKILL and reaped."""
    pid = os.fork()
    if pid == 0:
        try:
            _child(prepare, act)
        except BaseException as error:
            with suppress(BaseException):
                os.write(2, f"child of stepping: {error!r}\n".encode())
        finally:
            os._exit(1)
    try:
        assert _wait(pid) == signal.SIGSTOP
        _request(SETOPTIONS, pid, 0, EXITKILL)
        yield pid
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def until_signal(pid):
    """Let the child go on until it stops by itself."""
    _request(CONT, pid)
    assert _wait(pid) == signal.SIGSTOP


def until_call(pid, number, second):
    """Let the child go on until it is about to call the kernel, with this second argument."""
    while True:
        after_call(pid)
        if _request(PEEKUSER, pid, CALLED) == number and _request(PEEKUSER, pid, SECOND_ARGUMENT) == second:
            return


def after_call(pid):
    """Let the child go on until its call of the kernel begins, or is over."""
    _request(SYSCALL, pid)
    assert _wait(pid) == signal.SIGTRAP


# --- a whole call, and one place in it ------------------------------------------------------------


def trace(prepare, act):
    """Every place of act() at which an arena may be about to change or has just changed, in
    order."""
    ours, libc = code_ranges()
    whose = {}
    places, seen = [], Counter()
    address = nth = steps = 0
    called = False                      # in the C library, on behalf of a compiled module
    with stopped(prepare, act) as pid:
        while _step(pid):
            rip = _rip(pid)
            if rip not in whose:
                whose[rip] = 1 if any(a <= rip < b for a, b in ours) else 2 if any(a <= rip < b for a, b in libc) else 0
            if whose[rip] == 1:
                address, steps, called = rip, 0, True
                nth = seen[rip] = seen[rip] + 1
            elif called:
                # The first place outside is taken whoever it belongs to: the last instruction of
                # ours has been executed there.
                steps += 1
                called = whose[rip] == 2
            else:
                continue
            places.append(Place(address, nth, steps, rip))
    return places


def die_at(place, prepare, act):
    """Do prepare() and act() in a child that is killed by SIGKILL at this place of act()."""
    with stopped(prepare, act) as pid:
        text = _request(PEEKTEXT, pid, place.address)
        trap = text & ~0xFF | INT3
        for left in range(place.nth - 1, -1, -1):
            _request(POKETEXT, pid, place.address, trap)
            _request(CONT, pid)
            got = _wait(pid)
            assert got == signal.SIGTRAP and _rip(pid) == place.address + 1, (
                f"{place} was not reached: signal {got}, {left} to go"
            )
            _request(POKEUSER, pid, RIP, place.address)
            _request(POKETEXT, pid, place.address, text)
            if left:
                assert _step(pid)
        for _ in range(place.steps):
            assert _step(pid)
        assert _rip(pid) == place.rip, f"{place} was not reached"
