"""Owns a measure: what a page of Django pays for its cache, on this and on Redis.

    python -m tests.hosts.django_page [ROUNDS]

A page asks for its session, for a user and a menu, for ten fragments at once and for one more that
it puts anew, and counts a visit. Time is that of processors, of the client and of the server, which
share one core; Redis listens at a Unix socket. The rounds of both take turns; what is printed is
the median of each, and the ratio."""
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import django
from django.conf import settings

import engine

PAGES = 300


def page(cache, number):
    """What one page does with its cache."""
    session = cache.get(f"session:{number % 50}") or {}
    cache.set(f"session:{number % 50}", session | {"seen": number}, 3600)
    cache.get("user:17")
    cache.get("menu")
    cache.get_many([f"fragment:{part}" for part in range(10)])
    cache.set(f"page:{number % 20}", "<p>text</p>" * 200, 60)
    cache.add("visits", 0)
    cache.incr("visits")


def fill(cache):
    cache.set("user:17", {"name": "Ada", "rights": list(range(20))})
    cache.set("menu", [{"title": f"entry {n}", "url": f"/{n}/"} for n in range(30)])
    cache.set_many({f"fragment:{part}": "<li>entry</li>" * 100 for part in range(10)})


def ticks_of(pid):
    """Nanoseconds that a process has had of processors."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def cost(cache, server):
    """Microseconds of processors for a page."""
    began = time.process_time_ns() + (ticks_of(server) if server else 0)
    for number in range(PAGES):
        page(cache, number)
    return (time.process_time_ns() + (ticks_of(server) if server else 0) - began) / PAGES / 1000


def main(rounds=15):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    arena = f"django-page-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/redis.sock"
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            while not os.path.exists(socket):
                time.sleep(.01)
            settings.configure(CACHES={
                "default": {"BACKEND": "tmem.django.TmemCache", "LOCATION": arena},
                "redis": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"unix://{socket}"},
            })
            django.setup()
            from django.core.cache import caches
            sides = {"tmem": (caches["default"], None), "Redis": (caches["redis"], server.pid)}
            for cache, _ in sides.values():
                fill(cache)
            took = {name: [] for name in sides}
            for _ in range(rounds):
                for name, (cache, pid) in sides.items():
                    took[name].append(cost(cache, pid))
        finally:
            server.terminate()
            server.wait()
            with contextlib.suppress(engine.ArenaNotFound):
                engine.unlink(arena)
    ours, theirs = (statistics.median(took[name]) for name in sides)
    print(f"a page's cache takes {ours:.0f} us on tmem and {theirs:.0f} us on Redis: {theirs / ours:.1f} times as much")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
