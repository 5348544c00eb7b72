"""Owns the named semaphores of an arena: their names, opening on demand, timed wait, removal.

May call: posix_ipc. Called by lock (post) and waiting (sleep), never on an uncontended path.
A lock's semaphore is `/<arena>@<offset>-<generation>`, both in hexadecimal: the name follows from where the
lock lies, and the generation changes when the semaphore is removed, so that a process with the old one open
cannot post past the new one's sleepers. '@' cannot occur in an arena's name.
A semaphore is only a way to sleep. It carries no state of the lock: losing one, or a post too many, costs
a sleeper its time slice and nothing else.
Compiled, since a post is made with a lock held: Python runs signal handlers between lines of its own code, not in here.
"""
import os
import re
import time
from collections import OrderedDict

import posix_ipc

import cython

SHM_DIR = "/dev/shm"
OPEN_MAX = 1024          # handles kept open a process; each is a mapped page


def unlink_all(arena_name):
    """Remove every semaphore of the arena; how many there were."""
    pattern = re.compile(r"sem\.(" + re.escape(arena_name) + r"@[0-9a-f]+-[0-9a-f]+)")
    count = 0
    for entry in os.listdir(SHM_DIR):
        match = pattern.fullmatch(entry)
        if match:
            count += unlink_one("/" + match.group(1))
    return count


def unlink_one(name):
    """Remove one semaphore; 1 if it was there."""
    try:
        posix_ipc.unlink_semaphore(name)
    except posix_ipc.ExistentialError:
        return 0
    return 1


@cython.cclass
class Semaphores:
    """The semaphores of one arena as one process has them open, least recently used closed first.

    sleepers: how many can be asleep on one of them, the workers of the arena."""

    def __init__(self, arena_name, mode, sleepers):
        self._arena_name = arena_name
        self._sleepers = sleepers
        self._mode = mode
        self._open = OrderedDict()

    def name(self, offset, generation):
        """The name of the semaphore of the lock at `offset`."""
        return f"/{self._arena_name}@{offset:x}-{generation & (1 << 63) - 1:x}"

    def _get(self, offset, generation):
        name = self.name(offset, generation)
        semaphore = self._open.get(name)
        if semaphore is None:
            if not os.access(f"{SHM_DIR}/{self._arena_name}", os.F_OK):
                # Unlinked while in use: a semaphore made now would stay for ever. Sleepers nap instead.
                raise FileNotFoundError(self._arena_name)
            semaphore = posix_ipc.Semaphore(name, posix_ipc.O_CREAT, mode=self._mode, initial_value=0)
            self._open[name] = semaphore
            if len(self._open) > OPEN_MAX:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(name)
        return semaphore

    def post(self, offset, generation):
        """Wake one sleeper. Where as many posts are waiting as there can be sleepers, all of them are awake already: so posts do
        not pile up. (One waiting post is not enough: whoever it was for may be about to take it, and another asleep.)

        Errors are dropped: the sleeper's time slice ends anyway. No line of Python runs in here, so no signal handler does."""
        try:
            semaphore = self._get(offset, generation)
            if semaphore.value < self._sleepers:
                semaphore.release()
        except (OSError, ValueError, posix_ipc.Error):
            pass

    def sleep(self, offset, generation, seconds):
        """Sleep until posted or for `seconds`. The caller holds signals back; without a semaphore the sleep is short."""
        try:
            self._get(offset, generation).acquire(seconds)
        except (posix_ipc.BusyError, posix_ipc.SignalError):
            pass
        except (OSError, ValueError, posix_ipc.Error):
            time.sleep(min(seconds, 0.001))

    def unlink(self, offset, generation):
        """Remove the semaphore of a lock that nobody will take any more."""
        name = self.name(offset, generation)
        semaphore = self._open.pop(name, None)
        if semaphore is not None:
            semaphore.close()
        unlink_one(name)

    def close(self):
        """Close all handles; the semaphores stay."""
        for semaphore in self._open.values():
            semaphore.close()
        self._open.clear()
