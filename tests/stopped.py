"""Owns forked children: those that run a call to its end, and workers that stand still where a test
wants them, stopped by SIGSTOP at a kill point of a call."""
import os
import signal
import sys
import traceback

import engine
from shm import workers


def fork(call, *args):
    """Run a call in a forked child that ends with it, with 1 after an exception, which is printed:
    its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            call(*args)
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return pid


class Stopped:
    """A child that runs `act(engine)` on an engine of its own and stops at kill point `point` of
    it, or, with `born`, of attaching.

    A context manager: at its end the child is killed if nobody has seen its end before."""

    def __init__(self, name, act, point=0, born=0):
        self.status = None

        def child():
            workers.kill_newcomers_at(born, True)
            mine = engine.attach(name)
            mine.set_kill_point(point, True)
            act(mine)

        self.pid = fork(child)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        self.stopped = os.WIFSTOPPED(status)
        if not self.stopped:
            self.status = status

    def go_on(self):
        """Let it go on, to its end: its exit code, or minus the signal that ended it."""
        os.kill(self.pid, signal.SIGCONT)
        return self.end()

    def kill(self):
        """Kill it where it stands."""
        os.kill(self.pid, signal.SIGKILL)
        return self.end()

    def end(self):
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]
        return os.waitstatus_to_exitcode(self.status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            self.kill()


def in_child(call):
    """Run a call in a forked child: its exit code, 0 if nothing was raised (which is printed), or
    minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(call), 0)[1])
