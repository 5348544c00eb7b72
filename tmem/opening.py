"""Owns how an adapter comes to its cache, from what its host's settings say."""
import os

from engine import Cache
from engine.sizes import parse_size
from shm.arena import check_name

CAPACITY = "TMEM_CAPACITY"      # of the environment: bytes of an arena that an adapter has to make


def capacity_of(capacity=None):
    """Bytes of an arena that is not there yet: what the caller says, else the environment's
    TMEM_CAPACITY, else 64 MiB."""
    if capacity is not None:
        return parse_size("capacity", capacity)
    return parse_size(CAPACITY, os.environ.get(CAPACITY) or "64MiB")


def open_cache(arena, name, *, capacity=None, ttl=None, serializer=None, **options):
    """The cache of that name in an arena, which is made at the first call if it is not there.

    options: those of engine.Cache, as strings or values, so settings can be handed through. Raises
    TypeError and ValueError, naming what is wrong."""
    if not isinstance(arena, str) or not arena:
        raise TypeError(f"arena: the name of an arena, a str that is not empty, not {arena!r}")
    try:
        check_name(arena)
    except ValueError as error:
        raise ValueError(f"arena: {str(error).removeprefix('name: ')}") from None
    try:
        return Cache(arena, name, capacity=capacity_of(capacity), ttl=ttl, serializer=serializer, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise TypeError(
            f"options: capacity, exact, persistent, pam, policy, cap, client and allow, not {sorted(options)}"
        ) from error
