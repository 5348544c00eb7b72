"""What users import: all public names of the engine, and, in the modules beside this one, the
adapters to other libraries, each of which needs its library and is imported by its own name.
"""
import importlib.util as _util
import os as _os


def _origin(name):
    """Where a package of that name would come from, or came from; None if nowhere."""
    try:
        spec = _util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))


def _hidden():
    """What hides a package of ours, as a sentence; None if nothing does."""
    home = _os.path.dirname(_os.path.dirname(_os.path.realpath(__file__)))
    for name in ("engine", "shm"):
        ours = _os.path.join(home, name, "__init__.py")
        origin = _origin(name)
        if _os.path.exists(ours) and origin is not None and _os.path.realpath(origin) != ours:
            return f"tmem has a package {name!r}, and {origin} hides it; rename that"
    return None


_why = _hidden()
if _why is not None:
    raise ImportError(_why)

import engine as _engine  # noqa: E402
from engine import *  # noqa: E402, F403

__all__: list[str] = []
__all__ += _engine.__all__
