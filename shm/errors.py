"""Owns the exception tree of the package and the one funnel from status codes to exceptions.

What callers see of `shm` and `engine` raises these; the compiled code below returns status codes
(`shm/layout.pxd`) and never raises.
"""


class TmemError(Exception):
    """Base of every error the package raises besides TypeError and ValueError."""


class ArenaExists(TmemError):
    """An arena of this name is there already."""


class ArenaNotFound(TmemError):
    """No arena of this name; see docs/caveats.md for what removes one behind your back."""


class ArenaCorrupted(TmemError):
    """What the arena holds contradicts itself, or it is not an arena of this layout."""


class ArenaVersionMismatch(ArenaCorrupted):
    """The arena is of another version of this package, older or newer, and may be sound: nothing is
    known of it but that."""


class ArenaBusy(TmemError):
    """A bounded resource of the arena (worker slots, set-up time) is taken."""


class AccessDenied(TmemError):
    """The operating system or the arena's owner does not let this process do that."""
