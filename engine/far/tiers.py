"""Owns what a far tier is to the engine, and which there are: the schemes of `new_pool(far=...)`.

A tier keeps bytes under names that are given to it once each, and answers for each page by itself.
It is asked with no lock of an arena held and outside of every turn, so it may take its time; what
it may not do is wait for ever. It need not keep anything: the pages of these pools may go. Only a
tier that is `durable` has pages of persistent pools, too.
"""
import importlib
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from engine.far import target
from engine.far.answers import FAILED, Answer
from engine.far.batch import Batch
from engine.far.file import FileTier

TARGET_BYTES = 896              # room for a target in the arena: as in engine/layout/structs.pxd

__all__ = ["FAILED", "SCHEMES", "Answer", "Tier", "kind_of"]


class Tier(Protocol):
    """What a tier is asked, by any thread.

    `words`: four numbers that the arena keeps for it. The first is a token: those below it lead
    nowhere any more, and are not asked for (0 where nobody knows). deletes: it wants to hear of
    names that are not needed any more. apart: it has begin_put and end_put, between which the
    engine goes on with other pages. durable: it promises to keep what it has acknowledged; False of
    the class, if it does so under no target. trouble: why nothing can be had from it at the moment,
    or None. longest: bytes that a sealed page may have; batch_bytes: that several may have
    together."""

    deletes: bool
    apart: bool
    durable: bool
    trouble: str | None
    longest: int
    batch_bytes: int

    def prepare(self, lengths: Sequence[int], words: Sequence[int]) -> list[int]:
        """Values of these lengths are about to be put, by the one process that puts: what the words
        are to be from now on. The arena has them before anything is put."""

    def put_many(self, batch: Batch) -> list[int]:
        """Keep each value under its name: for each its token, a number that is given back with the
        name (1 of a tier that needs none), or 0: it is not kept."""

    def begin_put(self, batch: Batch) -> None:
        """Begin what put_many does, by the one process that puts. Until end_put the batch is not to
        be changed, and no other put. Only of a tier that is `apart`."""

    def end_put(self) -> list[int]:
        """What put_many would have answered to what was begun."""

    def get_many(
        self, names: Sequence[bytes], tokens: Sequence[int], lengths: Sequence[int]
    ) -> list[bytes | None | Answer]:
        """What is kept under each name, that long; None: nothing is any more; FAILED."""

    def delete_many(self, names: Sequence[bytes], tokens: Sequence[int]) -> None:
        """Nobody will ask for these names again. Only of a tier that wants to know."""


# By scheme: make(target, nonce, mode) -> (tier, words), and open(target, nonce, words, nodes) ->
# tier, where nodes is a Nodes; or the module and the name of what has these, which is imported when
# it is first wanted. Both raise ValueError for a target that says nothing, and TmemError if it
# cannot be had.
SERVERS = "engine.far.valkey:ValkeyTier"
SCHEMES: dict[str, Any] = {"file": FileTier, **dict.fromkeys(target.SCHEMES, SERVERS)}


def kind_of(asked: object) -> Any:
    """Who makes and opens the tier of a target. TypeError or ValueError names the argument."""
    takes = (f"text such as 'file:///var/cache/pages?size=50GiB' or 'valkey://host:6379', with one of the schemes "
             f"{', '.join(SCHEMES)}")
    if not isinstance(asked, str):
        raise TypeError(f"far: None, or {takes}, not {type(asked).__name__}")
    if not 1 <= len(asked.encode()) < TARGET_BYTES:
        raise ValueError(f"far: 1 to {TARGET_BYTES - 1} bytes of utf-8, not {len(asked.encode())}")
    kind = SCHEMES.get(urlsplit(asked).scheme)
    if kind is None:
        raise ValueError(f"far: {takes}, not {asked!r}")
    if isinstance(kind, str):
        module, _, name = kind.partition(":")
        kind = getattr(importlib.import_module(module), name)
    return kind
