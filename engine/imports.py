"""Owns what to tell who cannot import the package.

It imports nothing of the package, so it works where nothing is compiled, or installed.
"""
import os
import sys

# What tmem needs, and a name that each of them has.
NEEDED = {"posix_ipc": "SharedMemory", "xxhash": "xxh3_64_intdigest"}


def check_needed():
    """ImportError if something else has the name of what tmem needs. One of them is used late, and
    would fail then."""
    for needed, has in NEEDED.items():
        if not hasattr(sys.modules[needed], has):
            raise ImportError(has, name=needed)


def why(error):
    """The most likely reason for an error while the compiled modules were imported, and what to do,
    as a sentence."""
    here = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    other = getattr(sys.modules.get("shm"), "__file__", None)
    if other is not None and os.path.dirname(os.path.realpath(other)) != os.path.join(here, "shm"):
        return f"tmem has a package 'shm', and {other} hides it; rename that"
    for needed, has in NEEDED.items():
        if isinstance(error, ModuleNotFoundError) and error.name == needed:
            return f"tmem needs {needed}, which is not installed here: pip install {needed}"
        module = sys.modules.get(needed)
        if module is not None and not hasattr(module, has):
            return f"tmem needs the package {needed!r}, and {getattr(module, '__file__', needed)} hides it; rename that"
        if isinstance(error, ImportError) and (error.name or "").split(".")[0] == needed:
            return f"tmem needs {needed}, which cannot be imported here: {error}"
    if "interpreter" in str(error):     # Cython's words, and those of CPython 3.12 and later
        return ("tmem works in one interpreter of a process, and this is another (a subinterpreter): "
                "import it in the main one alone, or use processes")
    # A module that was not compiled fails in odd ways: its .py file is Cython and cannot be run.
    return (
        "tmem's compiled modules are missing or stale; build them with `pip install .` (or `make setup` in a checkout)"
    )
