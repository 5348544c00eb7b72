"""Owns the build of the compiled modules; all else about the distribution stands in pyproject.toml.

Guarded by __main__: from Python 3.14 on the processes that translate import this file themselves.
"""
import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

COMPILED = """
    shm.seal shm.semaphores shm.groups shm.memory shm.liveness shm.arena shm.turns shm.process shm.workers shm.journal shm.lock shm.waiting shm.slab
    shm.grace shm.shrink shm.recovery
    engine.oid engine.arguments engine.rbtree engine.objnode engine.hostops engine.pam.base engine.pam.raw engine.pam.packed
    engine.adapters.python engine.registry engine.queues engine.pins engine.twins engine.reclaim engine.unlink
    engine.shares engine.evict engine.admit engine.room engine.compact engine.lookaside engine.core engine.overwrite
    engine.fetch engine.ranges engine.views engine.batch engine.pool engine.handle
    engine.stats engine.repair engine.claims engine.check engine.stop engine.gentle engine.resize engine.access engine.client
    engine.ranks engine.session
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
        return f"tmem needs a little-endian processor, since it also reads parts of words; this one is {sys.byteorder}-endian."
    if sys.implementation.name != "cpython":
        return f"tmem needs CPython, whose ints and buffers it reads from C; this is {sys.implementation.name}."
    return None


def declarations_changed():
    """True if a .pxd, or this file with its directives, is newer than a module made from it. Cython follows the former itself, but not in a
    circle, and these cimport each other."""
    newest = max(path.stat().st_mtime for path in (Path("setup.py"), *Path("engine").rglob("*.pxd"), *Path("shm").rglob("*.pxd")))
    made = (GENERATED / f"{name.replace('.', '/')}.c" for name in COMPILED)
    return any(path.exists() and path.stat().st_mtime < newest for path in made)


def build():
    """What setuptools is called for."""
    setup(
        ext_modules=cythonize(
            [Extension(name, [name.replace(".", "/") + ".py"],
                       extra_compile_args=["-O2", "-g", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function",
                                           "-Wno-sign-compare"])
             for name in COMPILED],
            build_dir=str(GENERATED),
            force=declarations_changed(),
            annotate=False,
            nthreads=CORES,
            # Without auto_pickle: a copy of an object that owns memory, a descriptor or a pin would give it back a second time.
            compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True, "auto_pickle": False},
        ),
        options={"build_ext": {"parallel": CORES}},
    )


if __name__ == "__main__":
    if unsuited():
        sys.exit(unsuited())
    build()
