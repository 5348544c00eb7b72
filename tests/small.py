"""Owns the small process in which tests run that fork thousands of times.

A fork copies the page tables of its process, and whatever is written afterwards is copied page by
page. The process that runs pytest has grown to 150 MB by the time it has collected the suite, and a
fork, with all that follows from it, takes three times as long there as in a process that has
imported little but the engine. So there is one of these beside each pytest process that needs it;
it forks a child for each test that is marked `small`. conftest.py sends them here.

Run as a program, it is that process. In it a test function gets its arguments by pickle, so a test
with fixtures that are no plain values stays where it is.
"""
import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from multiprocessing.connection import Connection, Pipe

from tests.support import child_env

PR_SET_PDEATHSIG = 1


class SmallProcess:
    """The process, from the side of pytest."""

    def __init__(self):
        self._connection, theirs = Pipe()
        self._output = tempfile.TemporaryFile(mode="a+b")
        # Not forked: it would be as large as its parent.
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from tests.small import serve; serve({theirs.fileno()}, {os.getpid()})"],
            env=child_env(), pass_fds=[theirs.fileno()], stdout=self._output, stderr=self._output,
        )
        theirs.close()

    @property
    def pid(self):
        return self._process.pid

    def run(self, module, function, arguments):
        """Run a function of a module: (what it recorded, what it printed, what went wrong or
        None)."""
        began = self._output.seek(0, os.SEEK_END)
        self._connection.send((module, function, arguments))
        pid = self._connection.recv()
        try:
            status = self._connection.recv()
        except BaseException:           # a time limit, or ^C
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            self._connection.recv()
            self._connection.recv()
            raise
        answer = self._connection.recv()
        self._output.seek(began)
        text = self._output.read().decode(errors="replace")
        if answer is None:
            return [], text, f"the process of the test ended with {status}"
        return answer[0], text, answer[1]

    def close(self):
        self._connection.close()
        self._process.wait()
        self._output.close()


# --- in the small process -------------------------------------------------------------------------


def _end_with(parent):
    """Be killed when the parent ends, however it does."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _living_children():
    """Whether any child of this process runs or stands still."""
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return True
    return False


def _run(module, function, arguments):
    """The test itself: (what it recorded, what went wrong or None)."""
    recorded = []
    if "record_property" in arguments:
        arguments["record_property"] = lambda *pair: recorded.append(pair)
    try:
        getattr(importlib.import_module(module), function)(**arguments)
    except BaseException:
        return recorded, traceback.format_exc()
    return recorded, "children are still alive" if _living_children() else None


def serve(descriptor, parent):
    """Until the other end is closed: fork for each test, say the child's pid, then how it ended and
    what it answered, None if it did not."""
    _end_with(parent)
    me = os.getpid()
    connection = Connection(descriptor)
    while True:
        try:
            module, function, arguments = connection.recv()
        except EOFError:
            return
        with contextlib.suppress(Exception):
            importlib.import_module(module)     # once, and not in each child; there it is said what is wrong
        gc.freeze()                     # no collection in a child writes to what is there by now
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                _end_with(me)
                os.close(read)
                answer = _run(module, function, arguments)
                sys.stdout.flush()
                sys.stderr.flush()
                with open(write, "wb") as stream:
                    pickle.dump(answer, stream)
                if answer[1]:
                    os.killpg(0, signal.SIGKILL)    # what it leaves, too
            finally:
                os._exit(1)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)                # whoever of both comes first
        os.close(write)
        connection.send(pid)
        with open(read, "rb") as stream:
            try:
                answer = pickle.load(stream)
            except EOFError:
                answer = None
        connection.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        connection.send(answer)
