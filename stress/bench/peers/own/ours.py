"""Owns this engine as one of the stores: a persistent shared pool, OBJECT_PAGES pages to an object.
Calls `engine`."""
from __future__ import annotations

from typing import Any

import engine
from stress.bench.peers.base import OBJECT_PAGES, SPAN_NUMBERS, Peer


def buckets_for(objects: int) -> int:
    """As an owner of so many objects would choose: at most 16 to a bucket, within what
    `engine.create` takes."""
    return max(256, min(4096, 1 << max(0, -(-objects // 16) - 1).bit_length()))


class Subject(Peer):
    name = "tmem"
    about = f"persistent shared pool, {OBJECT_PAGES} pages to an object"
    object_pages = OBJECT_PAGES
    eng: Any = None

    def create(self) -> None:
        # Room for the metadata, and for what each worker keeps at hand.
        self.eng = engine.create(self.place.name, capacity=int(self.capacity * 1.06) + (48 << 20),
                                 buckets=buckets_for(self.pages // self.object_pages))
        self.eng.new_pool("bench", persistent=True, shared=True)

    def connect(self, handle: Any = None) -> None:
        self.eng = self.eng or engine.attach(self.place.name)
        self.pool = self.eng.pool("bench")
        self.put, self.get, self.drop = self.pool.put, self.pool.get, self.pool.flush_page
        self.get_into, self.drop_object = self.pool.get_into, self.pool.flush_object
        self._span_pages: dict[tuple, int] = {}
        view = self.pool.view

        def look(oid: Any, index: int) -> None:
            with view(oid, index):
                pass
        self.look = look

    def close(self) -> None:
        if self.eng is not None:
            self.eng.close()

    def remove(self) -> None:
        try:
            engine.unlink(self.place.name)
        except engine.ArenaNotFound:
            pass

    def key(self, number: int) -> tuple:
        return engine.oid(number // OBJECT_PAGES), number % OBJECT_PAGES

    def object_key(self, number: int) -> tuple:
        return (engine.oid(number),)

    def span(self, number: int, pages: int) -> tuple:
        oid = engine.oid(SPAN_NUMBERS + number)
        self._span_pages[oid] = pages
        return oid, 0

    def put_span(self, *key_and_block: Any) -> Any:
        return self.pool.put_range(*key_and_block)

    def get_span(self, *key: Any) -> Any:
        oid, index = key
        return self.pool.get_range(oid, index, self._span_pages[oid])

    def memory(self) -> int:
        return self.eng.stats()["arena"]["bytes_backed"]
