"""Owns what the target of a Valkey or Redis tier says, and where its password comes from.

A target is kept in the arena, where whoever may attach can read it: so it has no password. That
comes from the environment or from a file of the user's, in each process by itself.
"""
import os
import re
import stat
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

SECURE = ("valkeys", "rediss")
SCHEMES = ("valkey", "redis", *SECURE)
CLIENTS = ("glide", "valkey", "redis")
AUTH = "TMEM_FAR_AUTH"
PORT = 6379
TTL_MS = 24 * 3600 * 1000
TIMEOUT_MS = 100
TIMES = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST = 1 << 20               # bytes of a page, sealed: a longer one could take longer than an answer may
YES_NO = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}
EXAMPLE = "'valkey://host:6379,host2:6379?ttl=24h&timeout=100ms'"


@dataclass(frozen=True)
class Target:
    """Where the servers are, and how they are asked.

    hosts: (name, port) of some nodes. ttl: milliseconds that a page is kept there at most, 0: for
    ever. timeout: milliseconds that an answer may take. wait: replicas that must have a page before
    it counts as kept. client: the library that is used, None: the first that is installed. auth:
    the file with user and password."""

    hosts: tuple[tuple[str, int], ...]
    tls: bool
    ttl: int = TTL_MS
    timeout: int = TIMEOUT_MS
    wait: int = 0
    client: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    auth: str | None = None


def milliseconds(argument: str, text: str, least: int, most: int) -> int:
    """A time such as "100ms", "2s" or "24h" in milliseconds. ValueError names the argument."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|min|h|d)", text)
    found = int(float(match.group(1)) * TIMES[match.group(2)]) if match else -1
    if not least <= found <= most:
        raise ValueError(f"{argument}: a time such as '100ms', '2s' or '24h', of {least} to {most} ms, not {text!r}")
    return found


def _host(text: str, target: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:@\[\]/]+)(?::(\d{1,5}))?", text)
    port = int(match.group(2) or PORT) if match else 0
    if match is None or not 0 < port < 1 << 16:
        raise ValueError(f"far: hosts and ports such as {EXAMPLE}, not {target!r}")
    return match.group(1).strip("[]"), port


def _path(argument: str, text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"far: {argument}: an absolute path, not {text!r}")
    return text


def target_of(text: str) -> Target:
    """What a target says. ValueError names what is wrong in it."""
    parts = urlsplit(text)
    asked = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "@" in parts.netloc:
        raise ValueError(f"far: a target is kept in the arena, so it has no user or password; put 'user:password' into "
                         f"{AUTH}, or into a file that only you can read, and say auth=/path/of/it")
    if parts.path not in ("", "/") or parts.fragment or not parts.netloc:
        raise ValueError(f"far: hosts and ports such as {EXAMPLE}, not {text!r}")
    tls = parts.scheme in SECURE
    said: dict[str, Any] = {}
    for argument, value in asked.items():
        if argument == "tls":
            if value not in YES_NO or tls and not YES_NO[value]:
                raise ValueError(f"far: tls: 1 or 0, and 1 with {' or '.join(SECURE)}, not {value!r}")
            tls = YES_NO[value]
        elif argument == "ttl":
            said[argument] = 0 if value == "0" else milliseconds("far: ttl", value, 1000, 10 * 365 * TIMES["d"])
        elif argument == "timeout":
            said[argument] = milliseconds("far: timeout", value, 1, 60_000)
        elif argument == "wait":
            if not re.fullmatch(r"\d{1,2}", value):
                raise ValueError(f"far: wait: how many replicas must have a page, not {value!r}")
            said[argument] = int(value)
        elif argument == "client":
            if value not in CLIENTS:
                raise ValueError(f"far: client: one of {', '.join(CLIENTS)}, not {value!r}")
            said[argument] = value
        elif argument in ("ca", "cert", "key", "auth"):
            said[argument] = _path(argument, value)
        else:
            raise ValueError(f"far: {argument!r} is nothing that a target of {parts.scheme} says; it can say tls, ttl, "
                             f"timeout, wait, client, ca, cert, key and auth")
    if ("cert" in said) != ("key" in said):
        raise ValueError("far: cert and key: both or none")
    if not tls and {"ca", "cert", "key"} & set(said):
        raise ValueError(f"far: ca, cert and key: only with tls=1, or with {' or '.join(SECURE)}")
    hosts = tuple(dict.fromkeys(_host(host, text) for host in parts.netloc.split(",")))
    return Target(hosts, tls, **said)


def credentials_of(target: Target) -> tuple[str | None, str] | None:
    """User (None: the default one) and password; None: none are needed. ValueError if the file
    that should have them can be read by others, or says nothing; OSError."""
    text = os.environ.get(AUTH)
    if target.auth is not None:
        with open(target.auth, encoding="utf-8") as file:
            mode = os.fstat(file.fileno())
            if not stat.S_ISREG(mode.st_mode) or mode.st_mode & 0o077:
                raise ValueError(f"far: auth: others can read {target.auth!r}; chmod 600 {target.auth}")
            text = file.read().strip()
        if not text:
            raise ValueError(f"far: auth: {target.auth!r} is empty; it has one line, 'user:password' or 'password'")
    if not text:
        return None
    user, colon, password = text.partition(":")
    return (user or None, password) if colon else (None, text)

