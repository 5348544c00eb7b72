"""Owns times to live as callers say them: seconds, a timedelta, or the time at which it ends."""
import math
import time
from datetime import datetime, timedelta

FOREVER = math.inf


def seconds_of(ttl: object, argument: str = "ttl") -> float | None:
    """How long that is from now, in seconds; None: for ever, which is what infinity says.

    A time without a zone is local time, as `datetime` has it. TypeError or ValueError names the
    argument."""
    if type(ttl) is float or type(ttl) is int:
        seconds = ttl
    elif isinstance(ttl, timedelta):
        seconds = ttl.total_seconds()
    elif isinstance(ttl, datetime):
        seconds = ttl.timestamp() - time.time()
    else:
        if isinstance(ttl, (bool, str, bytes)) or not hasattr(type(ttl), "__float__"):
            raise TypeError(
                f"{argument}: seconds as a number, a timedelta, or the datetime at which it ends, "
                f"not {type(ttl).__name__}"
            )
        seconds = float(ttl)    # type: ignore[arg-type]
    if seconds != seconds:
        raise ValueError(f"{argument}: seconds, not nan")
    return None if seconds == FOREVER else float(max(seconds, -1.0)) if seconds < 1e18 else None
