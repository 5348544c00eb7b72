"""Owns what the tests share and what child processes import: the dictionary model of a pool, page
contents, back ends in Python, and leftovers in /dev/shm.

Never imports pytest: it is loaded by spawned children, which should start fast.
"""
import ctypes
import functools
import os
import random
import re
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHM = Path("/dev/shm")
U64_MAX = 2**64 - 1
# True where `make asan` runs: processes take several times the memory, and a fork several times as
# long.
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
SMALL = dict(capacity="16MiB", page_size=512, buckets=4, max_workers=8, max_pools=64)
# The four kinds of pool, by name: arguments of new_pool.
KINDS = {
    "ephemeral-private": dict(persistent=False, shared=False),
    "ephemeral-shared": dict(persistent=False, shared=True),
    "persistent-private": dict(persistent=True, shared=False),
    "persistent-shared": dict(persistent=True, shared=True),
}


def child_env(**more):
    """The environment of a child that finds all that this process finds, wherever it comes from:
    the tree, a wheel, PYTHONPATH."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


_IMPORT = re.compile(
    r"^[^\S\n]*(?:from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^\n]*)|c?import\s+([\w., ]+))", re.MULTILINE
)


def imported(text, compiled=False):
    """Names of all modules that the text of a .py or .pxd imports or cimports (only the latter with
    `compiled`), without cython's own prefix. What is imported from a package may be a module of it,
    and is named too."""
    for match in _IMPORT.finditer(text):
        source, names, modules = match.groups(default="")
        if compiled and "cimport" not in match[0]:
            continue
        found = [source, *(f"{source}.{name}" for name in re.findall(r"\w+", names))] if source else modules.split(",")
        for name in found:
            yield name.split(" as ")[0].strip().removeprefix("cython.cimports.")


def leftovers(prefix):
    """Files in /dev/shm of arenas whose name starts with `prefix`: arenas and what belongs to
    them."""
    begins = (prefix, f"sem.{prefix}", f"alive.{prefix}")
    return sorted(entry for entry in os.listdir(SHM) if entry.startswith(begins))


def semaphores_of(name):
    """The semaphore files of one arena."""
    return [
        entry
        for entry in os.listdir(SHM)
        if re.fullmatch(re.escape(name) + "@[0-9a-f]{16}-.*", entry.removeprefix("sem."))
    ]


NEWNS, MS_REC, MS_PRIVATE = 0x20000, 1 << 14, 1 << 18


def mount_over(where, options):
    """Give this process mounts of its own, with an empty tmpfs over a folder. OSError where that
    may not be."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source, folder, kind, flags, how):
        return libc.mount(source, os.fsencode(folder), kind, ctypes.c_ulong(flags), how)

    # What is mounted stays here if the mount below it is private. Which one that is depends: in a
    # chroot "/" is none.
    if libc.unshare(NEWNS) != 0 or all(
        mount(b"none", folder, None, MS_REC | MS_PRIVATE, None) for folder in (where, *Path(where).parents)
    ) or mount(b"none", where, b"tmpfs", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"no tmpfs over {where}")


@functools.cache
def can_mount():
    """Whether a child of this process may have mounts of its own: root may, as a rule."""
    pid = os.fork()
    if pid == 0:
        try:
            mount_over("/dev/shm", "size=64k")
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def page(tag, length=64):
    """A page of `length` bytes that names `tag`, an unsigned 64-bit number: other tags give other
    bytes everywhere."""
    return (struct.pack("<Q", tag) * (length // 8 + 1))[:length]


PHRASES = [
    phrase.encode()
    for phrase in (
        "the page of a pool",
        "is put under its handle",
        "and stays until it goes",
        "if self.status is None:",
        "return length",
        "for index in",
        "range(count):",
        "def put(self, oid, index)",
        "with the arena's lock",
        "a worker that dies",
        "chunk",
        "class",
        "bytes",
        "of the shape",
        "in no queue",
        "before or after",
    )
]


@functools.lru_cache(256)               # a scene that is made anew for each kill point has the same pages
def text(tag, length=64):
    """Text of `length` bytes that follows from `tag`: words in lines, which compress about as code
    and prose do."""
    rnd = random.Random(tag)
    lines = (b"%d: " % rnd.getrandbits(16) + b" ".join(rnd.choices(PHRASES, k=4)) for _ in range(length // 24 + 1))
    return b"\n".join(lines)[:length]


@functools.lru_cache(256)
def mixed(tag, length=64):
    """A page of `length` bytes that follows from `tag`: one word over and over, text, noise, or
    noise with text."""
    kind = tag % 4
    if kind == 0:
        return page(tag, length)
    if kind == 1:
        return text(tag, length)
    return random.Random(tag).randbytes(length if kind == 2 else length // 2) + (
        b"" if kind == 2 else text(tag, length - length // 2)
    )


def height_of(largest):
    """Levels of a tree whose largest index is `largest`: the smallest h with largest < 64**h."""
    height = 0
    while largest >> 6 * height:
        height += 1
    return height


def tree_shape(indexes):
    """(objnode_count, height) of a tree that holds exactly these indexes."""
    height = height_of(max(indexes))
    level, count = indexes, 0
    for _ in range(height):
        level = {index >> 6 for index in level}
        count += len(level)
    return count, height


class ModelPool:
    """What a pool that never refuses must answer: a dictionary of objects, each a dictionary of
    pages."""

    def __init__(self, persistent=False, shared=True, page_size=512):
        self.persistent = persistent
        self.exclusive = not persistent and not shared
        self.page_size = page_size
        self.objects = {}

    def put(self, oid, index, data):
        self.objects.setdefault(oid, {})[index] = bytes(data)
        return True

    def get(self, oid, index, free=None):
        found = self.objects.get(oid, {}).get(index)
        if found is not None and (self.exclusive if free is None else free):
            self.flush_page(oid, index)
        return found

    def get_into(self, oid, index, buffer, free=None):
        found = self.get(oid, index, free)
        if found is None:
            return -1
        buffer[:len(found)] = found
        return len(found)

    def flush_page(self, oid, index):
        pages = self.objects.get(oid, {})
        if pages.pop(index, None) is None:
            return False
        if not pages:
            del self.objects[oid]
        return True

    def flush_object(self, oid):
        return self.objects.pop(oid, None) is not None

    def put_range(self, oid, index, buffer):
        for at in range(0, len(buffer), self.page_size):
            self.put(oid, index + at // self.page_size, buffer[at:at + self.page_size])
        return True

    def get_range(self, oid, index, count, free=None):
        pages = self.objects.get(oid, {})
        found = [pages.get(index + at) for at in range(count)]
        if None in found:
            return None
        if self.exclusive if free is None else free:
            for at in range(count):
                self.flush_page(oid, index + at)
        return b"".join(found)

    def get_range_into(self, oid, index, count, buffer, free=None):
        found = self.get_range(oid, index, count, free)
        if found is None:
            return -1
        buffer[:len(found)] = found
        return len(found)

    def put_many(self, handles, pages):
        return [self.put(oid, index, data) for (oid, index), data in zip(handles, pages, strict=True)]

    def get_many(self, handles, free=None):
        return [self.get(oid, index, free) for oid, index in handles]

    def object_info(self, oid):
        pages = self.objects.get(oid)
        return (len(pages), *tree_shape(pages)) if pages else None

    @property
    def obj_count(self):
        return len(self.objects)

    @property
    def page_count(self):
        return sum(map(len, self.objects.values()))

    def pages(self):
        """Every page: (oid, index, data), sorted."""
        return sorted((oid, index, data) for oid, pages in self.objects.items() for index, data in pages.items())


class DictPam:
    """A back end in Python that keeps pages in a dictionary by token, up to `capacity` pages (None:
    no limit)."""

    def __init__(self, capacity=None):
        self.capacity = capacity
        self.refuse_next = False
        self.stored = {}                # token -> (pool_id, oid, index, data)
        self.objects = set()            # (pool_id, oid)
        self.calls = []                 # filled only if a test sets `record`
        self.record = False
        self._tokens = 0

    def _note(self, *what):
        if self.record:
            self.calls.append(what)

    def create(self, pool_id, oid, index, data):
        self._note("create", pool_id, oid, index, data)
        if self.refuse_next or (self.capacity is not None and len(self.stored) >= self.capacity):
            self.refuse_next = False
            return None
        self._tokens += 1
        self.stored[self._tokens] = (pool_id, oid, index, data)
        return self._tokens

    def get_data(self, pool_id, oid, index, pampd):
        self._note("get_data", pool_id, oid, index, pampd)
        assert self.stored[pampd][:3] == (pool_id, oid, index)
        return self.stored[pampd][3]

    def get_data_and_free(self, pool_id, oid, index, pampd):
        self._note("get_data_and_free", pool_id, oid, index, pampd)
        assert self.stored[pampd][:3] == (pool_id, oid, index)
        return self.stored.pop(pampd)[3]

    def free(self, pool_id, oid, index, pampd):
        self._note("free", pool_id, oid, index, pampd)
        assert self.stored.pop(pampd)[:3] == (pool_id, oid, index)

    def new_obj(self, pool_id, oid):
        self._note("new_obj", pool_id, oid)
        assert (pool_id, oid) not in self.objects
        self.objects.add((pool_id, oid))

    def free_obj(self, pool_id, oid):
        self._note("free_obj", pool_id, oid)
        self.objects.remove((pool_id, oid))

    def is_remote(self, pampd):
        return False

    def replace_in_obj(self, pool_id, oid, index, old, new):
        self._note("replace_in_obj", pool_id, oid, index, old, new)
        self.stored[new] = self.stored.pop(old)
        return True


class CountingHost:
    """HostOps that count what is allocated and refuse what they were told to: the next obj, the
    n-th objnode from here."""

    def __init__(self):
        self.objects = 0
        self.objnodes = 0
        self.refuse_obj = False
        self.refuse_objnode = 0         # 0: none; n: the n-th from here
        self.refused = 0

    def obj_alloc(self, pool_id):
        if self.refuse_obj:
            self.refuse_obj = False
            self.refused += 1
            return False
        self.objects += 1
        return True

    def obj_free(self, pool_id):
        self.objects -= 1

    def objnode_alloc(self, pool_id):
        if self.refuse_objnode:
            self.refuse_objnode -= 1
            if self.refuse_objnode == 0:
                self.refused += 1
                return False
        self.objnodes += 1
        return True

    def objnode_free(self, pool_id):
        self.objnodes -= 1
