"""Owns the abstract tests of fsspec, run on our file system in front of a local one and of one in
memory."""
import os

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem, make_path_posix
from fsspec.tests import abstract

import tmem.fsspec  # noqa: F401


class Local(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self):
        return fsspec.filesystem("tmem", fs=LocalFileSystem(auto_mkdir=True), arena=os.environ["TMEM_ARENA"])

    @pytest.fixture
    def fs_path(self, tmpdir):
        return str(tmpdir)

    @pytest.fixture
    def fs_sanitize_path(self):
        return make_path_posix


class Memory(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self):
        fs = fsspec.filesystem("tmem", target_protocol="memory", arena=os.environ["TMEM_ARENA"])
        fs.fs.store.clear()
        fs.fs.pseudo_dirs[:] = [""]
        yield fs
        fs.fs.store.clear()
        fs.fs.pseudo_dirs[:] = [""]

    @pytest.fixture
    def fs_path(self):
        return ""

    @pytest.fixture
    def fs_join(self):
        return lambda *args: "/".join(args)


class TestCopyLocal(abstract.AbstractCopyTests, Local):
    pass


class TestGetLocal(abstract.AbstractGetTests, Local):
    pass


class TestPutLocal(abstract.AbstractPutTests, Local):
    pass


class TestOpenLocal(abstract.AbstractOpenTests, Local):
    pass


class TestPipeLocal(abstract.AbstractPipeTests, Local):
    pass


class TestCopyMemory(abstract.AbstractCopyTests, Memory):
    pass


class TestGetMemory(abstract.AbstractGetTests, Memory):
    pass


class TestPutMemory(abstract.AbstractPutTests, Memory):
    pass


class TestOpenMemory(abstract.AbstractOpenTests, Memory):
    pass


class TestPipeMemory(abstract.AbstractPipeTests, Memory):
    pass
