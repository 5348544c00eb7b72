"""Owns four processes that read one file of a far store through fsspec, each block of which is
fetched once for all of them.

    pip install 'tmem[fsspec]'
    python examples/read_once.py
"""
import functools
import http.server
import multiprocessing
import os
import re
import tempfile
import threading

import fsspec

import engine

BLOCK = 64 * 1024
BLOCKS = 32
READERS = 4


class FarStore(http.server.SimpleHTTPRequestHandler):
    """A web server that knows ranges, and counts who asked for which."""

    protocol_version = "HTTP/1.1"
    fetched: list[tuple[int, int]] = []

    def do_GET(self):
        first, last = map(int, re.match(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        self.fetched.append((first, last))
        with open(self.translate_path(self.path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(first)
            data = file.read(last - first + 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def read(arena, url):
    """What each reader does: all of the file, in small steps."""
    with fsspec.open(f"tmem::{url}", tmem={"arena": arena, "block_size": BLOCK}) as file:
        return sum(len(piece) for piece in iter(functools.partial(file.read, 10_000), b""))


def main():
    arena = f"read-once-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/file", "wb") as file:
            file.write(os.urandom(BLOCK * BLOCKS))
        store = functools.partial(FarStore, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), store)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/file"
        try:
            with multiprocessing.get_context("spawn").Pool(READERS) as pool:
                lengths = pool.starmap(read, [(arena, url)] * READERS, chunksize=1)
        finally:
            server.shutdown()
            engine.unlink(arena)
        fetched = len(FarStore.fetched)
        print(f"{READERS} processes read {sum(lengths)} bytes; {fetched} blocks were fetched, of {BLOCKS}")


if __name__ == "__main__":
    main()
