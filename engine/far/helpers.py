"""Owns threads that ask nodes besides the one that the caller asks himself, for where a library
connects, or sends and waits, at once.

No signal handler interrupts them. A forked child has its own.
"""
import concurrent.futures
import os
from collections.abc import Callable
from typing import Any

from engine.far.client import Unanswered

HELPERS = 16


class Helpers:
    """The threads of this process."""

    def __init__(self) -> None:
        self.pid = 0
        self.pool: concurrent.futures.ThreadPoolExecutor | None = None

    def submit(self, call: Callable[..., Any], *args: Any) -> "concurrent.futures.Future[Any]":
        """Begin a call. When the interpreter ends there are no threads: it is done at once."""
        if self.pid != os.getpid() or self.pool is None:
            self.pool = concurrent.futures.ThreadPoolExecutor(HELPERS, "tmem-far")
            self.pid = os.getpid()
        try:
            return self.pool.submit(call, *args)
        except RuntimeError:
            done: concurrent.futures.Future[Any] = concurrent.futures.Future()
            try:
                done.set_result(call(*args))
            except Exception as error:
                done.set_exception(error)
            return done


helpers = Helpers()


def answers_of(begun: "concurrent.futures.Future[Any]", patience: float) -> list[Any]:
    """What a call comes to that helpers have begun. Unanswered: not within so many seconds."""
    try:
        answers: list[Any] = begun.result(max(0.0, patience))
    except concurrent.futures.TimeoutError as error:
        raise Unanswered("no answer in time", True) from error
    return answers
