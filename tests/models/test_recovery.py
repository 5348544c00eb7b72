"""Owns the exhaustive check of recovery under each worker's own lock: recovery.pml by `spin`, as
test_models.py has it for the lock.

Each search is of a few workers in given roles, with deaths anywhere; mistakes are planted one by
one and must be found. README.md says what holds, within which bounds, and what is left out.
"""
import re
from pathlib import Path

import pytest

from tests.models.searching import BACKWARDS, FAIR, LONG, SAFETY, SMALL, chosen, needs_spin, search

MODEL = Path(__file__).with_name("recovery.pml")


def crew(roles, deaths, **more):
    """#defines for the workers in the first slots; `free` is a slot that nobody has."""
    roles = [role.upper() for role in roles.split()]
    return dict(zip("ABCD", roles + ["FREE"] * (3 - len(roles)), strict=False)) | {"DEATHS": deaths} | more


TWO = {"SLOTS": 2, "NEWCOMERS": 1}             # whoever comes finds no slot but a dead worker's
THIRD = {"NEWCOMERS": 1}                       # whoever comes finds a free slot
CLOSING = {"SLOTS": 2, "NEWCOMERS": 2, "CLOSES": 1}
# name: (#defines, how to search)
HOLDS = {
    "two rescuers": (crew("work rescue rescue", 3), SAFETY),
    "two of the dead worked": (crew("work work rescue", 3), SAFETY),
    "resize": (crew("work resize rescue", 3), SAFETY),
    "two resize": (crew("work resize resize", 2), SAFETY),
    "a free slot": (crew("work resize", 3, **THIRD), SAFETY),
    "a dead worker's slot": (crew("work rescue", 3, **TWO), SAFETY),
    "a dead worker's slot, resize": (crew("work resize", 3, **TWO), SAFETY),
    "two newcomers": (crew("work", 3, SLOTS=2, NEWCOMERS=2), SAFETY),
    "slots never used": (crew("work", 2, UNUSED=2, NEWCOMERS=2), SAFETY),
    "close": (crew("close resize", 2, **THIRD), SAFETY),
    "close, rescue": (crew("close rescue", 3, **THIRD), SAFETY),
    "close, resize": (crew("close resize rescue", 2), SAFETY),
    "check": (crew("check resize work", 2), SAFETY),
    "two checks": (crew("check check work", 3), SAFETY),
    "check, a free slot": (crew("check work", 3, **THIRD), SAFETY),
    "check, a dead worker's slot": (crew("check resize", 3, **TWO), SAFETY),
    "a newcomer is stopped": (crew("work resize", 2, STOPS=1, **THIRD), SAFETY),
    "a newcomer is stopped, check": (crew("check work", 2, STOPS=1, **THIRD), SAFETY),
    "progress": (crew("work work rescue", 1), FAIR),
    "progress, check": (crew("check work", 2, **TWO), FAIR),
    "progress, resize": (crew("work resize", 2, **TWO), FAIR),
}
# Without it, these are searched with a death less.
SMALLER = {
    "two resize": 1,
    "slots never used": 1,
    "check": 1,
    "two newcomers": 2,
    "a free slot": 2,
    "a newcomer is stopped": 1,
    "check, a free slot": 2,
    "progress, check": 1,
    "progress, resize": 1,
}
# Minutes in all: only with MODELS_LONG=1 in the environment.
HOLDS_LONG = {
    "two rescuers and who resizes": (crew("work rescue rescue resize", 1, MAY_DIE="me == 0"), SAFETY),
    "newcomers that close": (crew("work rescue", 1, **CLOSING), SMALL),
    "rescue, two newcomers": (crew("work rescue", 1, NEWCOMERS=2), SMALL),
    "resize, rescue, a newcomer": (crew("work resize rescue", 1, NEWCOMERS=1), SMALL),
    "two rescuers, a newcomer": (crew("work rescue rescue", 2, NEWCOMERS=1), SMALL),
    "check, resize, a newcomer": (crew("check resize work", 1, NEWCOMERS=1), SMALL),
    "resize, slots never used": (crew("work resize", 1, UNUSED=1, NEWCOMERS=2, MAY_DIE="role == NEW"), SMALL),
}
LOST = r"assertion violated 0|place"           # a token is lost, or there are two of it
STAYS = r"word\[|held\["                       # not all is free after the last pass
# name: (#defines, how to search, what spin says)
MISTAKES = {
    "buries without the dead worker's own lock": (crew("work resize rescue", 2, M_BURIES_WITHOUT=1), r"settling|place"),
    "no second look at the liveness byte": (crew("work rescue", 2, M_NO_SECOND_LOOK=1, **TWO), r"state|settling|has"),
    "no look at the state after the liveness byte": (crew("work rescue", 1, M_ONE_LOOK=1, **CLOSING), r"live\["),
    "the newcomer byte after the liveness byte": (crew("work rescue", 1, M_COME_LATE=1, **TWO), r"come\["),
    "the newcomer byte is given back too early": (crew("work rescue", 1, M_COME_EARLY=1, **TWO), r"come\["),
    "an heir that fails keeps the liveness byte": (crew("work rescue", 2, M_KEEPS_BYTE=1, **TWO), r"come\["),
    "two rescuers and who resizes, without the dead worker's own lock": (
        crew("work rescue rescue resize", 1, MAY_DIE="me == 0", M_BURIES_WITHOUT=1),
        r"settling|place",
    ),
    "the own word is read after the liveness byte": (crew("work rescue", 2, M_BYTE_FIRST=1, **TWO), r"has\[x\]==0"),
    "locks are released before the rollback": (crew("work work rescue", 2, M_RELEASE_FIRST=1), LOST),
    "locks are released by a plain store": (crew("check check work", 2, M_RELEASES_BY_STORE=1), r"word\[.*==id"),
    "only locks of the last generation are released": (crew("work rescue", 2, M_EXACT=1, **TWO), STAYS),
    "own locks that no note lists stay": (crew("check work work", 2, M_NO_SCAN=1), STAYS),
    "held is recorded after the lock is taken": (crew("work work rescue", 2, M_LATE_HELD=1), STAYS),
    "the slot is free before its list is moved": (crew("work rescue", 2, M_FREE_FIRST=1, **THIRD), r"place"),
    "an own lock is never had from another dead worker": (
        crew("work resize rescue", 2, M_NEVER_FROM_ANOTHER=1),
        r"i<=",
    ),
    "an own lock is had from any dead worker": (crew("work resize rescue", 2, M_FROM_ANY=1), LOST),
    "who resizes does not look at the journal": (
        crew("work resize rescue", 1, NEWCOMERS=1, MAY_DIE="in && me == 0", M_RESIZER_TRUSTS=1),
        LOST,
    ),
    "the newcomer's generation after it settles": (crew("work rescue", 2, M_GEN_LATE=1, **TWO), STAYS),
    "the newcomer does not look at the state again": (
        crew("work", 2, SLOTS=2, NEWCOMERS=2, M_NO_REREAD=1),
        r"state\[me\]==0",
    ),
    "the newcomer trusts the own lock of a free slot": (crew("work rescue", 2, M_TRUSTS_OWN=1, **TWO), STAYS),
    "the newcomer gives memory to its slot alone": (crew("work", 2, UNUSED=2, NEWCOMERS=2, M_BACKS_ONE=1), r"backed"),
    "the newcomer looks at the gate before it is live": (crew("check work", 2, M_GATE_FIRST=1, **THIRD), r"stopped"),
    "the checker looks at a state before it has the gate": (
        crew("check work", 2, M_STATES_FIRST=1, **THIRD),
        r"stopped",
    ),
    "who closes lets go of the byte before the slot is free": (
        crew("close rescue", 2, M_BYTE_BEFORE_FREE=1, **TWO),
        r"state|held",
    ),
    "who closes leaves a full list": (crew("close rescue", 2, SLOTS=2, M_CLOSES_FULL=1), r"place"),
}
# Made by who comes last: found in a fraction of the time if he goes first.
LATE = {
    "no look at the state after the liveness byte",
    "the newcomer gives memory to its slot alone",
    "who resizes does not look at the journal",
}


@needs_spin
@pytest.mark.parametrize("name", chosen(HOLDS, 6, "what holds of recovery"))
def test_it_holds(name, tmp_path):
    defines, how = HOLDS[name]
    fewer = {} if LONG or name not in SMALLER else {"DEATHS": SMALLER[name]}
    states, error = search(tmp_path, MODEL, defines | fewer, how)
    print(f"{name}: {states} states")
    assert error is None


@needs_spin
@pytest.mark.skipif(not LONG, reason="minutes: make test-all")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HOLDS_LONG)
def test_it_holds_in_larger_bounds(name, tmp_path):
    states, error = search(tmp_path, MODEL, *HOLDS_LONG[name], ("-O2",))
    print(f"{name}: {states} states")
    assert error is None


@needs_spin
@pytest.mark.parametrize("name", chosen(MISTAKES, 6, "mistakes of recovery"))
def test_a_mistake_is_found(name, tmp_path):
    defines, says = MISTAKES[name]
    states, error = search(tmp_path, MODEL, defines, BACKWARDS if name in LATE else SAFETY)
    print(f"{name}: {states} states, {error}")
    assert error is not None and re.search(says, error)
