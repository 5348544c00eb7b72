"""Owns what a check says: Problem and Report."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Problem:
    """One invariant that does not hold. id: which; where: arena offset or name; what: in words."""

    id: str
    where: str
    what: str

    def __str__(self):
        return f"{self.id} at {self.where}: {self.what}"


@dataclass
class Report:
    """The answer of Engine.check. counts: what was seen (pools, objects, objnodes, pages, chunks,
    segments, workers; far_lost: far pages of persistent pools of which their tier has said that
    they are lost).

    After a repair, `problems` are those that are left, `repaired` those that were found, and `lost`
    names what had to go: (pool name, oid, index) tuples; index None: pages of the object that
    nobody can name; oid None: so for an object.
    gentle: nobody was stopped, and what only a stopped world shows was not looked at.
    """

    problems: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)
    repaired: list = field(default_factory=list)
    lost: list = field(default_factory=list)
    gentle: bool = False

    @property
    def ok(self):
        """True if every invariant holds."""
        return not self.problems


def report_of(problems, counts, repaired=(), lost=(), gentle=False):
    """A Report of problems as tuples: made when nobody is held up any more, since the interpreter
    runs signal handlers as it makes one."""
    found, mended = ([Problem(*each) for each in some] for some in (problems, repaired))
    return Report(found, counts, mended, list(lost), gentle)
