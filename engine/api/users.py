"""Owns users as arguments: permission bits, a group, the owner that an arena must have."""
import grp
import pwd

from engine.sizes import whole

NUMBER_LARGEST = 2**32 - 2      # the one above means nobody in particular, for the system


def mode_argument(mode):
    """The permission bits of a new arena, an argument."""
    number = whole(mode)
    if number is None:
        raise TypeError(f"mode: an int, not {type(mode).__name__}")
    if not 0 <= number <= 0o777 or number & 0o700 != 0o600 or number >> 3 & 7 not in (0, 6) or number & 7 not in (0, 6):
        raise ValueError(
            "mode: reading and writing for the owner (0o600), and both or neither for the group (0o060) and "
            f"for all others (0o006): who is attached writes, if only that he is; not {number:#o}"
        )
    return number


def group_or_none(group):
    """The number of the group that a new arena is to have, an argument: a number or a name; None
    stays None."""
    return _number("group", group, lambda name: grp.getgrnam(name).gr_gid)


def user_or_none(owner):
    """The number of the user whose an arena must be, as group_or_none."""
    return _number("owner", owner, lambda name: pwd.getpwnam(name).pw_uid)


def _number(argument, value, number_of):
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return number_of(value)
        except KeyError:
            raise ValueError(f"{argument}: there is none of the name {value!r}") from None
    number = whole(value)
    if number is None:
        raise TypeError(f"{argument}: None, a name (str) or a number, not {type(value).__name__}")
    if not 0 <= number <= NUMBER_LARGEST:
        raise ValueError(f"{argument}: a number from 0 to 2**32 - 2, not {number}")
    return number
