"""Owns the build of the compiled modules; all else about the distribution stands in pyproject.toml."""
import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

COMPILED = """
    shm.seal shm.semaphores shm.memory shm.liveness shm.arena shm.turns shm.process shm.workers shm.journal
    shm.lock shm.waiting shm.slab shm.grace shm.shrink shm.recovery
    engine.oid engine.layout.geometry
    engine.pages.queues engine.pages.pins engine.pages.twins engine.pages.reclaim
    engine.pages.pam.base engine.pages.pam.raw engine.pages.pam.packed
    engine.tree.rbtree engine.tree.objnode engine.tree.hostops engine.tree.unlink engine.tree.lookaside
    engine.eviction.shares engine.eviction.evict engine.eviction.admit engine.eviction.room
    engine.verbs.core engine.verbs.overwrite engine.verbs.fetch
    engine.member.adapter engine.member.registry engine.member.stats engine.member.access
    engine.member.ranks engine.member.seats engine.member.member engine.member.arguments engine.member.bound
    engine.capacity.compact engine.capacity.resize
    engine.integrity.repair engine.integrity.claims engine.integrity.check engine.integrity.stop
    engine.api.ranges engine.api.views engine.api.batch engine.api.pool engine.api.handle
    engine.api.client engine.api.session
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
