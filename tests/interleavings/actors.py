"""Owns the processes that act: a worker that carries out verbs it is told over a pipe, and the
other end of that pipe.

A worker is forked from the small process that directs, attaches by itself, and lives until it is
killed: no interpreter is started for an interleaving. It may be told to stop at a kill point of a
verb (SIGSTOP, of the whole process), to do a verb in a thread, and what its signal handler does
when a signal comes while a verb waits. Calls verbs.py.
"""
import marshal
import os
import select
import signal
import struct
import threading
import traceback

import engine
from tests.interleavings import model
from tests.interleavings.verbs import PR_SET_PDEATHSIG, VERBS, Call, content, oid, prctl

HUGE = 1 << 60
SIGNAL = signal.SIGUSR1
_LENGTH = struct.Struct("<I")


class Interrupt(Exception):
    """What the raising handler raises."""


def _send(fd, message):
    data = marshal.dumps(message)
    os.write(fd, _LENGTH.pack(len(data)) + data)  # one write below PIPE_BUF: never mixed with a thread's or a child's


class Worker:
    """The worker's own side."""

    def __init__(self, name, commands, answers):
        self.commands, self.answers = commands, answers
        self.pid = os.getpid()
        self.extras, self.threads = [], []
        self.handler, self.handles = "", None
        self.engine = engine.attach(name)
        signal.signal(SIGNAL, self.on_signal)

    def tell(self, *message):
        _send(self.answers, message)

    def read(self):
        head = os.read(self.commands, 4)
        return marshal.loads(os.read(self.commands, *_LENGTH.unpack(head))) if head else ("bye",)

    def serve(self):
        self.tell("ready")
        while True:
            what, *rest = self.read()
            if what == "do":
                *arguments, threaded, self.handler = rest
                if threaded:
                    self.threads.append(threading.Thread(target=self.perform, args=arguments))
                    self.threads[-1].start()
                else:
                    self.perform(*arguments)
            elif what == "tidy":
                self.tidy()
            else:
                self.engine.close()
                return

    def perform(self, number, verb, pool, tag, point):
        """Do a verb and tell what it answered, and how many kill points it has."""
        call = Call(self, pool, tag, point)
        try:
            try:
                self.tell("began", number)
                answer = self.answer(VERBS[verb], call)
            finally:
                # A signal that comes late raises nothing: two come at most, and this may be cut by
                # the second.
                if threading.current_thread() is threading.main_thread():
                    self.handler = ""
        except Interrupt:
            answer = model.RAISED
        points = 0
        if call.armed is not None:
            points = call.armed.kill_points()
            call.armed.set_kill_point(0)
        if (
            os.getpid() != self.pid
        ):  # a signal handler forked in the middle: this is the child, which did the verb as well
            self.tell("answer", -number, answer, 0)
            os._exit(0)
        self.tell("answer", number, answer, points)

    @staticmethod
    def answer(verb, call):
        try:
            verb.prepare(call)
            return verb.act(call)
        except (engine.PoolDestroyed, engine.PoolNotFound):
            return model.GONE
        except Interrupt:
            raise
        except BaseException as error:
            return f"bad: {error!r} {traceback.format_tb(error.__traceback__)[-1]}"

    def tidy(self):
        for thread in self.threads:
            thread.join()
        for extra in self.extras:
            extra.close()
        self.threads, self.extras = [], []
        self.tell("tidied")

    def on_signal(self, *_):
        if self.handler == "raise":
            raise Interrupt
        if self.handler == "use":
            try:
                pool = self.engine.pool("s")
                answer = pool.get(oid(9), 0) == content(5, 500) if pool.put(oid(9), 0, content(5, 500)) else "refused"
            except BaseException as error:
                answer = f"bad: in the handler: {error!r}"
            self.tell("handled", answer)
        elif self.handler == "fork":
            pid = os.fork()
            if pid == 0:
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != self.pid:
                    os._exit(0)
            else:
                self.tell("child", pid)


class Actor:
    """The director's side of a worker."""

    def __init__(self, letter, name, close_in_child=()):
        self.letter = letter
        theirs, self.commands = os.pipe()
        self.answers, answering = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                for fd in (self.commands, self.answers, *close_in_child):
                    os.close(fd)
                Worker(name, theirs, answering).serve()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(theirs)
        os.close(answering)
        self.children = []          # of its forks, which may outlive it
        self.op = None              # the verb in hand
        self.stopped = self.dead = self.waits = self.ready = self.tidied = False
        self.handled = []
        self.data = b""
        self.fresh()

    def fresh(self):
        """Forget what an interleaving left here."""
        self.op, self.waits, self.handled, self.ops = None, False, [], {}

    def send(self, *message):
        _send(self.commands, message)

    def read(self):
        """The messages that have come."""
        data = os.read(self.answers, 65536)
        self.data += data
        found = []
        while len(self.data) >= 4:
            length, = _LENGTH.unpack_from(self.data)
            if len(self.data) < 4 + length:
                break
            found.append(marshal.loads(self.data[4:4 + length]))
            self.data = self.data[4 + length:]
        return found, bool(data)

    def look(self):
        """What the kernel says: whether it stopped, went on, or died."""
        while True:
            try:
                found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
            except ChildProcessError:
                self.dead = True
                return
            if found is None:
                return
            if found.si_code == os.CLD_STOPPED:
                self.stopped = True
            elif found.si_code == os.CLD_CONTINUED:
                self.stopped = False
            else:
                self.dead, self.stopped = True, False

    def kill(self):
        """SIGKILL, to it and its children, and until they are gone."""
        if not self.dead:
            os.kill(self.pid, signal.SIGKILL)
            os.waitid(os.P_PID, self.pid, os.WEXITED)
            self.dead = True
        self.stopped = self.waits = False
        for pid in self.children:
            try:
                os.waitpid(pid, 0)          # it dies with its parent, and was left to us (PR_SET_CHILD_SUBREAPER)
            except ChildProcessError:
                pass                        # its parent had waited for it
        self.children = []

    def drop(self):
        self.kill()
        os.close(self.commands)
        os.close(self.answers)


def poll(fds, seconds):
    """Those of the descriptors that can be read."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll(max(0, seconds * 1000))]
