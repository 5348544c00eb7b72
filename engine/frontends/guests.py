"""Owns whose pools of an arena are a guest's: their names, and what becomes of them when the guest
has died and starts again."""
from engine.errors import PoolDestroyed, PoolNotFound

GUEST_BYTES = 32        # of a name, so that a pool's has room for what else stands in it


def prefix_of(front_end, guest):
    """How the names of a guest's pools begin. TypeError, ValueError if it is no guest's name."""
    if not isinstance(guest, str):
        raise TypeError(f"guest: the guest's name, a str, not {type(guest).__name__}")
    if not 1 <= len(guest.encode("utf-8", "surrogatepass")) <= GUEST_BYTES or ":" in guest:
        raise ValueError(f"guest: 1 to {GUEST_BYTES} bytes of utf-8 without a colon, not {guest!r}")
    return f"{front_end}:{guest}:"


def drop_pools(eng, prefix):
    """Destroy what a guest of that name has left: it held pages for a run of it that is over."""
    for name in [pool.name for pool in eng.pools() if pool.name.startswith(prefix)]:
        drop_pool(eng, name)


def drop_pool(eng, name):
    """Destroy a pool, unless somebody has done so."""
    try:
        eng.pool(name).destroy()
    except (PoolNotFound, PoolDestroyed):
        pass
