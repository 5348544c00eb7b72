"""Owns the build of the compiled modules; all else about the distribution stands in pyproject.toml."""
import os
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


def declarations_changed():
    """True if a .pxd, or this file with its directives, is newer than a module made from it. Cython follows the former itself, but not in a
    circle, and these cimport each other."""
    newest = max(path.stat().st_mtime for path in (Path("setup.py"), *Path("engine").rglob("*.pxd"), *Path("shm").rglob("*.pxd")))
    made = (GENERATED / f"{name.replace('.', '/')}.c" for name in COMPILED)
    return any(path.exists() and path.stat().st_mtime < newest for path in made)


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
