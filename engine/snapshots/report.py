"""Owns what a save and a restore tell of themselves."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a snapshot has."""

    pools: int = 0
    objects: int = 0
    pages: int = 0
    bytes: int = 0              # lengths of the pages, as they were put
    size: int = 0               # of the snapshot
    torn: int = 0               # objects of many pages that changed all the time: each page is of a moment of its own
    skipped: tuple = ()         # pools that were not saved, since their pages are a back end's
    gone: tuple = ()            # pools that were destroyed meanwhile; a restore leaves them out


@dataclasses.dataclass(frozen=True)
class Restored:
    """What came of a snapshot."""

    pools: int = 0
    objects: int = 0
    pages: int = 0
    bytes: int = 0              # lengths of the pages, as they were put
    refused: int = 0            # pages for which there was no room
    expired: int = 0            # objects whose time had come
    missing: int = 0            # blocks that are damaged or were not there; the last one counts, too
    stale: tuple = ()           # ephemeral pools that were left out, since the snapshot is older than its max_age
    gone: tuple = ()            # pools that were destroyed while they were saved
