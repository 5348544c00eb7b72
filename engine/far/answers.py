"""Owns what a far tier answers in place of bytes."""
import enum


class Answer(enum.Enum):
    """FAILED: the tier could not be asked, and may have the page."""

    FAILED = "failed"


FAILED = Answer.FAILED
