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
from engine.cli.snapshots import say_restored, say_saved, told
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


def _make(name: str, capacity: int | str | None, restored: str | None) -> None:
    """Make the arena, of a snapshot if there is one."""
    with usage(), told():
        if restored is None or not os.path.exists(restored):
            engine.create(name, "64MiB" if capacity is None else capacity).close()
            return
        if os.path.lexists(f"{SHM_DIR}/{name}"):
            raise engine.ArenaExists(f"arena {name!r} is there already")
        say_restored(name, engine.restore(restored, name, capacity), False)


def _save(name: str, file: str, ephemeral: bool) -> bool:
    """Write the snapshot; what is in the way is told, and does not keep the arena."""
    try:
        with told(), engine.attach(name) as eng:
            say_saved(file, eng.save(file, ephemeral=ephemeral), False)
    except (engine.TmemError, ValueError, click.ClickException) as error:
        click.echo(f"Error: the snapshot was not written: {error}", err=True)
        return False
    return True


@click.command("run", context_settings={"ignore_unknown_options": False})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--capacity", default=None, help="Bytes, or such as 512MiB or 2GiB.  [default: 64MiB, or as saved]")
@click.option("--restore", "restored", type=click.Path(), default=None,
              help="Make it of this snapshot, if there is such a file.")
@click.option("--save", "saved", type=click.Path(), default=None, help="Write a snapshot of it when COMMAND has ended.")
@click.option("--ephemeral", is_flag=True, help="With --save: of ephemeral pools, too.")
def run(
    name: str, command: tuple[str, ...], capacity: str | None, restored: str | None, saved: str | None, ephemeral: bool
) -> None:
    """Make the arena NAME, run COMMAND, and remove the arena when that has ended.

    tmem run shop --capacity 1GiB -- gunicorn shop:app

    COMMAND finds the name in its environment as TMEM_ARENA. It gets the signals that are sent to
    this process, and its exit status is that of this one: 128 and the signal's number if it was
    killed, 127 if there is no such command. --save and --restore may name the same file: then the
    pages outlive a reboot. Where it could not be written, the status is 1 if it were 0.
    """
    if ephemeral and saved is None:
        raise click.UsageError("--ephemeral: only with --save")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*HANDED_ON, signal.SIGCHLD})
    try:
        _make(name, None if capacity is None else number(capacity), restored)
        mine = _inode(name)
        try:
            pid = _start(command, {**os.environ, ARENA: name}, before)
            status = _attend(pid)
            if saved is not None and _inode(name) == mine and not _save(name, saved, ephemeral):
                status = status or 1
        finally:
            # Not what somebody has made in its place.
            if _inode(name) == mine:
                with contextlib.suppress(engine.ArenaNotFound):
                    engine.unlink(name)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    sys.exit(status)
