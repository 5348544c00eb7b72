"""Owns looking at what servers have of arenas that are not at hand: whose names there are, and
dropping those of an arena that is gone."""
import re
from collections import Counter

from engine.errors import TmemError
from engine.far.client import Client, Unanswered, connect, run
from engine.far.garbage import Garbage
from engine.far.target import SCHEMES, target_of
from engine.far.valkey import PATIENCE_S, scanned

AT_ONCE = 256


def _client(target: str) -> Client:
    if target.partition(":")[0] not in SCHEMES:
        raise ValueError(f"target: servers, such as 'valkey://host:6379', not {target!r}")
    return connect(target_of(target))


def nonces(target: str) -> tuple[dict[str, int], set[str]]:
    """How many names there are of each nonce, and the nodes that did not answer. TmemError if none
    can be had, ValueError."""
    silent: set[str] = set()
    client = _client(target)
    found = Counter(key.split(b":")[1].decode("ascii", "replace") for key in scanned(client, b"tmem:*:*", silent))
    client.close()
    return dict(found), silent


def drop(target: str, nonce: str) -> Garbage:
    """Drop all names of a nonce. TmemError if no server can be had, ValueError."""
    if not re.fullmatch(r"[0-9a-f]{16}", nonce):
        raise ValueError(f"nonce: 16 hexadecimal digits, as `tmem far ls` has them, not {nonce!r}")
    silent: set[str] = set()
    client = _client(target)
    done = Garbage()
    for node in client.nodes():
        keys = list(dict.fromkeys(scanned(client, f"tmem:{nonce}:*".encode(), silent, [node])))
        done.names += len(keys)
        for first in range(0, len(keys), AT_ONCE):
            try:
                answers = run(client, node, [("UNLINK", key) for key in keys[first:first + AT_ONCE]], PATIENCE_S)
            except Unanswered:
                silent.add(node)
                break
            done.dropped += sum(answer == 1 for answer in answers)
    client.close()
    done.silent = tuple(sorted(silent))
    if len(silent) == len(client.nodes()):
        raise TmemError("far: no server answers")
    return done
