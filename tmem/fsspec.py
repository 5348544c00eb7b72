"""Owns the adapter to fsspec: blocks of files that all processes of a machine read, fetched once.

`open(..., cache_type="tmem")` of any file system of fsspec keeps them (TmemCache; it is known as
soon as this module is imported), and so does a file system in front of another (TmemFileSystem,
`tmem::s3://bucket/key`).

Blocks are kept under what says which bytes they are: the file system, the path, and what fsspec
tells of the file's state (`ukey`). A file system that cannot be told by a text, and the one in a
process's own memory, share with nobody else.
"""
import functools
import os
import uuid

from fsspec import filesystem
from fsspec.caching import BaseCache, caches, register_cache
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from fsspec.utils import stringify_path

from engine.sizes import number_in, parse_size
from tmem.opening import open_cache
from tmem.places import digest, text_of

NAME = "fsspec"         # of the cache, if nothing else is said


class _Short(Exception):
    """What came is not as long as the block: the file has changed, or the connection broke."""


def _generation_key(fs, path):
    """Under which key a path's generation is: it changes when something is written through
    TmemFileSystem."""
    text, bound = text_of(fs)
    return "generation", digest(text, path), os.getpid() if bound else 0


def _generation(cache, fs, path):
    """The generation of a path. One that has made room is followed by another that nobody had
    before: its blocks may still be there, and be older than what was written since."""
    key, new = _generation_key(fs, path), uuid.uuid4().bytes
    found = cache.get(key)
    if found is None:
        cache.add(key, new)         # False: somebody was faster, or there is no room
        found = cache.get(key, new)
    return found


class _Name(str):
    """What a file says its cache_type is. All that fsspec pickles of a file's cache is that, so the
    options go along with it."""

    def __reduce__(self):
        return _named, (self.options,)


def _named(options):
    """A cache_type of this process that has the options of another's."""
    name = f"tmem {digest(sorted(options.items())).hex()}"
    caches[name] = functools.partial(TmemCache, **options)
    return name


class TmemCache(BaseCache):
    """What open(path, cache_type="tmem", cache_options={"arena": NAME}) makes: blocks of the size
    of the file's own (`block_size`), which lie in the arena.

    cache_options: arena, the name of one. name: of the cache in it. ttl: seconds that a block
    lives. capacity: of an arena that has to be made. Others: as of engine.Cache."""

    name = "tmem"

    def __init__(self, blocksize, fetcher, size, arena=None, name=NAME, ttl=None, capacity=None, **options):
        if not isinstance(blocksize, int) or blocksize < 1:
            raise ValueError(f"block_size: bytes that are fetched at a time, an int from 1 on, not {blocksize!r}")
        super().__init__(blocksize, fetcher, size)
        self.nblocks = -(-size // blocksize)
        options.update(ttl=ttl, capacity=capacity)
        self.cache = open_cache(arena, name, **options)
        self.name = _Name(self.name)
        self.name.options = {"arena": arena, "name": name, **options}
        self._whose, self._bound = self._identity()
        self._last = (None, b"")        # the block that was fetched last: it may have found no room

    def _identity(self):
        """Whose bytes the fetcher gives, and whether they are of this process alone."""
        file = getattr(self.fetcher, "__self__", None)
        fs, path = getattr(file, "fs", None), getattr(file, "path", None)
        text, bound = text_of(fs) if isinstance(fs, AbstractFileSystem) else (None, True)
        if text is None or path is None:
            return digest(uuid.uuid4()), True       # a plain function: nobody knows what it reads
        # Stores with versions open one that is not the newest, of which ukey tells.
        version = getattr(file, "version_id", None), getattr(file, "generation", None)
        written = _generation(self.cache, fs, path)
        return digest(text, path, fs.ukey(path), version, written, self.size, self.blocksize), bound

    def _fetch(self, start, stop):
        start = start or 0
        stop = self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return b""
        first, last = start // self.blocksize, (stop - 1) // self.blocksize
        return b"".join(self._part(number, start, stop) for number in range(first, last + 1))

    def _part(self, number, start, stop):
        """Those of the bytes from start to stop that are in one block."""
        start, stop = max(start - number * self.blocksize, 0), stop - number * self.blocksize
        last, block = self._last
        if last == number:
            return block[start:stop]
        key = (self._whose, os.getpid() if self._bound else 0, number)
        block = self.cache.get(key, copy=False)         # where it lies: a small read copies no more than it wants
        if block is not None:
            self.hit_count += 1
            return bytes(block[start:stop])
        return self._block(key, number)[start:stop]

    def _block(self, key, number):
        """A block that nobody had a moment ago: one process of the machine fetches it."""
        begin = number * self.blocksize
        end = min(begin + self.blocksize, self.size)

        def fetch():
            self.miss_count += 1
            self.total_requested_bytes += end - begin
            data = bytes(self.fetcher(begin, end))
            if len(data) != end - begin:
                raise _Short(data)
            self._last = (number, data)
            return data

        try:
            return self.cache.get_or_compute(key, fetch)
        except _Short as short:
            return short.args[0]

    def __getstate__(self):
        return {**self.__dict__, "_last": (None, b"")}


register_cache(TmemCache, clobber=True)


class _Writing:
    """A file that is written: its path has a new generation when it is closed."""

    def __init__(self, file, done):
        self._file = file
        self._done = done

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __iter__(self):         # "r+b" reads, too
        return iter(self._file)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        try:
            self._file.__exit__(*error)
        finally:
            self._done()

    def close(self):
        try:
            self._file.close()
        finally:
            self._done()

    def commit(self):
        try:
            self._file.commit()
        finally:
            self._done()


def _passed(verb):
    """A method that the file system behind has, too, and that reads no file."""

    def method(self, path, *args, **kwargs):
        return getattr(self.fs, verb)(self._strip_protocol(path), *args, **kwargs)

    method.__name__ = verb
    return method


class TmemFileSystem(ChainedFileSystem):
    """A file system in front of another: what is read of its files is kept in an arena. Everything
    else it hands on.

    target_protocol and target_options, or fs: the file system behind. arena: the name of one. name:
    of the cache in it. block_size: bytes that are fetched at a time, if `open` says nothing. ttl:
    seconds that a block lives. capacity: of an arena that has to be made."""

    protocol = "tmem"
    _strip_tokenize_options = ("fo",)       # the path of a chained URL, which is not of the file system

    def __init__(
        self, target_protocol=None, target_options=None, fs=None, fo=None, arena=None, name=NAME, block_size=None,
        ttl=None, capacity=None, **kwargs
    ):
        super().__init__(**kwargs)
        if (fs is None) == (target_protocol is None):
            raise ValueError("fs, target_protocol: the file system behind, said in one of the two ways")
        self.fs = filesystem(target_protocol, **(target_options or {})) if fs is None else fs
        if getattr(self.fs, "asynchronous", False):
            raise ValueError("fs: one that is called from outside of a loop, not with asynchronous=True")
        self.block_size = block_size and number_in("block_size", parse_size("block_size", block_size), 0, 2**63 - 1)
        self.cache_options = dict(arena=arena, name=name, ttl=ttl, capacity=capacity)
        self.cache = open_cache(**self.cache_options)
        self.sep, self.root_marker = self.fs.sep, self.fs.root_marker
        # As methods of the class, which fsspec also asks when there is no file system yet, these
        # know the name "tmem" alone.
        self._strip_protocol, self._parent = self._path_behind, self.fs._parent

    def _path_behind(self, path):
        if isinstance(path, list):
            return [self._path_behind(one) for one in path]
        return self.fs._strip_protocol(stringify_path(path).removeprefix("tmem://").removeprefix("tmem::"))

    def _open(self, path, mode="rb", block_size=None, autocommit=True, cache_options=None, **kwargs):
        block_size = block_size or self.block_size
        if mode != "rb":
            self._written(path)
            file = self.fs._open(path, mode=mode, block_size=block_size, autocommit=autocommit, **kwargs)
            return _Writing(file, lambda: self._written(path))
        options = {**self.cache_options, **(cache_options or {})}
        kwargs.update(block_size=block_size, cache_type="tmem", cache_options=options)
        file = self.fs.open(path, mode=mode, **kwargs)
        if isinstance(file, AbstractBufferedFile):
            return file
        if self.fs.info(path)["size"] is None:
            return file             # a stream, whose end nobody knows: nothing of it is kept
        file.close()
        return AbstractBufferedFile(self.fs, path, **kwargs)

    def _written(self, path):
        self.cache.set(_generation_key(self.fs, path), uuid.uuid4().bytes)

    def _write(self, verb, path, *args, **kwargs):
        try:
            return getattr(self.fs, verb)(*args, **kwargs)
        finally:
            self._written(path)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        path = self._strip_protocol(path)
        return self._write("pipe_file", path, path, value, mode=mode, **kwargs)

    def put_file(self, lpath, rpath, *args, **kwargs):
        rpath = self._strip_protocol(rpath)
        return self._write("put_file", rpath, lpath, rpath, *args, **kwargs)

    def cp_file(self, path1, path2, **kwargs):
        path2 = self._strip_protocol(path2)
        return self._write("cp_file", path2, self._strip_protocol(path1), path2, **kwargs)

    def touch(self, path, truncate=True, **kwargs):
        path = self._strip_protocol(path)
        return self._write("touch", path, path, truncate=truncate, **kwargs)

    def unstrip_protocol(self, name):
        return self.fs.unstrip_protocol(self._strip_protocol(name))

    def invalidate_cache(self, path=None):
        self.fs.invalidate_cache(path and self._strip_protocol(path))


for verb in (
    "ls", "info", "exists", "isfile", "isdir", "find", "glob", "walk", "du", "mkdir", "makedirs", "rmdir", "rm",
    "rm_file", "size", "created", "modified", "ukey", "checksum", "sign",
):
    setattr(TmemFileSystem, verb, _passed(verb))
