"""Owns the file that a snapshot is written to: a new one beside it, which takes its name when it is
whole and on the disk.

The new file is locked as long as its writer lives, so that whoever writes the next one knows which
are left of writers that died, and removes these. What has the name is replaced, and not followed
where it is a symbolic link.
Kill at any instruction: what has the name is the former file or the new one, each of them whole.
"""
import contextlib
import fcntl
import os
import re
import stat
import time

JUST_MADE_S = 10.0


class Target:
    """A file on its way: `fd` to be written to; then `sync`, `rename` and `sync_folder`, in that
    order, or `abandon`."""

    def __init__(self, path):
        path = os.fsdecode(path)
        self.folder, self.base = os.path.split(os.path.abspath(path))
        with contextlib.suppress(FileNotFoundError):
            mode = os.lstat(path).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                raise ValueError(
                    f"file: the path of a regular file, which is replaced, or an open binary file; {path!r} is "
                    f"{'a folder' if stat.S_ISDIR(mode) else 'neither'}"
                )
        self.at = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.temporary = None
        self.pid = os.getpid()
        try:
            self._sweep()
            name = f".{self.base[:200]}.{os.urandom(8).hex()}.tmp"
            self.fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600,
                              dir_fd=self.at)
            self.temporary = name
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self.abandon()
            raise

    def _sweep(self):
        """Remove what writers of the same file have left who died."""
        pattern = re.compile(re.escape(f".{self.base[:200]}.") + r"[0-9a-f]{16}\.tmp")
        for name in os.listdir(self.at):
            if not pattern.fullmatch(name):
                continue
            with contextlib.suppress(OSError):
                fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.at)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # One that was just made, and is not locked yet, is empty.
                    found = os.fstat(fd)
                    if found.st_size != 0 or time.time() - found.st_mtime > JUST_MADE_S:
                        os.unlink(name, dir_fd=self.at)
                finally:
                    os.close(fd)

    def sync(self):
        os.fsync(self.fd)

    def rename(self):
        os.rename(self.temporary, self.base, src_dir_fd=self.at, dst_dir_fd=self.at)
        self.temporary = None

    def sync_folder(self):
        os.fsync(self.at)
        self.abandon()

    def abandon(self):
        """Give up what did not come to be the file, and what this holds; in a forked child, which
        has it open too, the file is the parent's. Twice is once."""
        if self.temporary is not None and self.pid == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(self.temporary, dir_fd=self.at)
            self.temporary = None
        for name in ("fd", "at"):
            fd, _ = getattr(self, name, -1), setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)


class Stream:
    """The same of a file that the caller has open: it is written to, and no more."""

    def __init__(self, file):
        file.flush()
        self.fd = file.fileno()

    def sync(self):
        """Nothing: what it is, is the caller's business, as are the following."""

    rename = sync_folder = abandon = sync


def open_target(file):
    """The Target or Stream of an argument. TypeError, ValueError, OSError."""
    if isinstance(file, (str, bytes, os.PathLike)):
        return Target(file)
    if hasattr(file, "fileno") and hasattr(file, "flush"):
        return Stream(file)
    raise TypeError(f"file: a path, or an open binary file, not {type(file).__name__}")
