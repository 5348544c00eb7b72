"""Owns the command `tmem run`: an arena for as long as a command runs.

The command is in the process group of this process, so what a terminal sends reaches it without us;
a signal that somebody sent to this process alone is handed on. All signals are blocked from before
the arena is there until it is gone, and are taken one by one in between: so none comes at a moment
when it would leave the arena behind. SIGKILL does.
"""
import contextlib
import os
import signal
import sys

import click

import engine
from engine.cli.basics import number, usage
from shm.kernel.liveness import SHM_DIR

ARENA = "TMEM_ARENA"        # of the environment of the command: the name of its arena
SI_KERNEL = 0x80            # the code of a signal that a terminal sent, and that the command has, too
NOT_STARTED, NOT_FOUND = 126, 127       # exit statuses, as env(1) has them
HANDED_ON = {
    number for number in signal.valid_signals()
    if number not in {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
                      signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP,
                      signal.SIGSYS, signal.SIGPIPE}
    and number < signal.SIGRTMIN
}


def _start(command: tuple[str, ...], environment: dict[str, str], mask: set[signal.Signals | int]) -> int:
    """The pid of the command, with signals as they were before this process touched them."""
    try:
        return os.posix_spawnp(command[0], command, environment, setsigmask=mask,
                               setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
    except OSError as error:
        click.echo(f"Error: {command[0]}: {error.strerror}", err=True)
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED)


def _attend(pid: int) -> int:
    """Hand on signals until the command has ended: its exit status, as a shell has it."""
    while True:
        told = signal.sigwaitinfo({*HANDED_ON, signal.SIGCHLD})
        if told.si_signo == signal.SIGCHLD:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif told.si_code != SI_KERNEL:
            os.kill(pid, told.si_signo)


def _inode(name: str) -> int | None:
    try:
        return os.stat(f"{SHM_DIR}/{name}").st_ino
    except OSError:
        return None


@click.command("run", context_settings={"ignore_unknown_options": False})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--capacity", default="64MiB", show_default=True, help="Bytes, or such as 512MiB or 2GiB.")
def run(name: str, command: tuple[str, ...], capacity: str) -> None:
    """Make the arena NAME, run COMMAND, and remove the arena when that has ended.

    tmem run shop --capacity 1GiB -- gunicorn shop:app

    COMMAND finds the name in its environment as TMEM_ARENA. It gets the signals that are sent to
    this process, and its exit status is that of this one: 128 and the signal's number if it was
    killed, 127 if there is no such command.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*HANDED_ON, signal.SIGCHLD})
    try:
        with usage():
            engine.create(name, number(capacity)).close()
        mine = _inode(name)
        try:
            pid = _start(command, {**os.environ, ARENA: name}, before)
            status = _attend(pid)
        finally:
            # Not what somebody has made in its place.
            if _inode(name) == mine:
                with contextlib.suppress(engine.ArenaNotFound):
                    engine.unlink(name)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    sys.exit(status)
