"""Owns the build of the compiled modules; all else about the distribution stands in pyproject.toml.

Guarded by __main__: from Python 3.14 on the processes that translate import this file themselves.
"""
import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

COMPILED = """
    shm.seal shm.memory shm.copies shm.arena shm.turns shm.workers shm.journal shm.lock shm.waiting shm.segments
    shm.extent shm.slab shm.shrink shm.recovery
    shm.kernel.semaphores shm.kernel.groups shm.kernel.liveness shm.kernel.process shm.kernel.grace
    engine.oid engine.layout.geometry engine.layout.backed engine.far.nodes
    engine.pages.queues engine.pages.pins engine.pages.twins engine.pages.dead engine.pages.reclaim
    engine.pages.pam.base engine.pages.pam.raw engine.pages.pam.packed
    engine.tree.rbtree engine.tree.objnode engine.tree.hostops engine.tree.unlink engine.tree.lookaside
    engine.tree.walk engine.tree.stem
    engine.eviction.sweep engine.eviction.shares engine.eviction.policies engine.eviction.evict engine.eviction.admit
    engine.eviction.relieve engine.eviction.move engine.eviction.merge engine.eviction.room
    engine.eviction.window engine.eviction.leaving
    engine.verbs.section engine.verbs.put engine.verbs.overwrite engine.verbs.fetch engine.verbs.flush
    engine.verbs.ends engine.verbs.write engine.verbs.tail engine.verbs.value engine.verbs.lease
    engine.verbs.walk engine.verbs.copy engine.verbs.away engine.verbs.home
    engine.member.adapter engine.member.registry engine.member.fullness engine.member.stats engine.member.access
    engine.member.ranks engine.member.seats engine.member.member engine.member.arguments engine.member.bound
    engine.member.far_target engine.far.names engine.far.batch engine.far.disk
    engine.capacity.leavers engine.capacity.kept engine.capacity.tide engine.capacity.compact engine.capacity.giving
    engine.capacity.resize engine.capacity.tend engine.capacity.electing engine.capacity.carrying engine.capacity.spill
    engine.integrity.leases engine.integrity.claims engine.integrity.linked engine.integrity.check
    engine.integrity.gentle engine.integrity.ballot engine.integrity.judge engine.integrity.repair engine.integrity.stop
    engine.api.ranges engine.api.views engine.api.values engine.api.writing engine.api.gather engine.api.batch
    engine.api.pool engine.api.walks engine.api.garbage
    engine.api.handle engine.api.client engine.api.lease engine.api.session engine.api.opening
    engine.cache.keys engine.cache.values engine.cache.store engine.cache.computing engine.cache.cache
    engine.snapshots.saving engine.snapshots.source engine.snapshots.repeated engine.snapshots.restoring
""".split()

CORES = os.cpu_count() or 1
GENERATED = Path("build/c")


def unsuited():
    """Why nothing is built here, in one sentence; None where it is."""
    bits = sys.maxsize.bit_length() + 1
    if sys.platform != "linux":
        return f"tmem needs Linux, whose locks of open files tell it who lives; this is {sys.platform}."
    if bits != 64:
        return f"tmem needs a 64-bit Python, since it changes words of 64 bits at once; this one has {bits} bits."
    if sys.byteorder != "little":
        return (
            "tmem needs a little-endian processor, since it also reads parts of words; "
            f"this one is {sys.byteorder}-endian."
        )
    if sys.implementation.name != "cpython":
        return f"tmem needs CPython, whose ints and buffers it reads from C; this is {sys.implementation.name}."
    return None


def directives_changed():
    """True if this file is newer than a module translated under it: its directives are about all of
    them. What else a module depends on, near and far, Cython finds itself
    (tests/tidy/test_dependencies.py)."""
    made = (GENERATED / f"{name.replace('.', '/')}.c" for name in COMPILED)
    return any(path.exists() and path.stat().st_mtime < Path("setup.py").stat().st_mtime for path in made)


class BuildModules(build_py):
    """What goes into a wheel beside the compiled modules: not what they were compiled from. The
    source distribution asks for the same modules, and has them all."""

    def build_module(self, module, module_file, package):
        if f"{package}.{module}" not in COMPILED:
            super().build_module(module, module_file, package)


class BuildExtensions(build_ext):
    """In a checkout, where they are debugged and measured, modules keep their symbols; elsewhere
    those are three quarters of their size."""

    def build_extension(self, ext):
        if not self.inplace:
            ext.extra_link_args = ["-Wl,--strip-all"]
        super().build_extension(ext)


def build():
    """What setuptools is called for."""
    setup(
        ext_modules=cythonize(
            [
                Extension(
                    name,
                    [name.replace(".", "/") + ".py"],
                    extra_compile_args=[
                        "-O2",
                        "-g",
                        "-fno-strict-aliasing",
                        "-Wall",
                        "-Wno-unused-function",
                        "-Wno-sign-compare",
                    ],
                )
                for name in COMPILED
            ],
            build_dir=str(GENERATED),
            force=directives_changed(),
            annotate=False,
            nthreads=CORES,
            # Without auto_pickle: a copy of an object that owns memory, a descriptor or a pin would
            # give it back a second time.
            compiler_directives={
                "language_level": 3,
                "boundscheck": False,
                "wraparound": False,
                "cdivision": True,
                "auto_pickle": False,
                "freethreading_compatible": True,       # docs/locking.md, "Threads without the GIL"
            },
        ),
        cmdclass={"build_py": BuildModules, "build_ext": BuildExtensions},
        options={"build_ext": {"parallel": CORES}},
    )


if __name__ == "__main__":
    if unsuited():
        sys.exit(unsuited())
    build()
