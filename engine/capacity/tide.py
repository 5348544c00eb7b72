"""Owns when memory that lies free goes back to the system: arithmetic alone, on segments and a
clock.

What goes back costs whoever needs it again as much as new memory. So only what is beyond what was
in use lately, and beyond a reserve, goes; and lately is longer for whoever was wrong about it.
Compiled, and with C's numbers, though nothing here is hot: the interpreter would run signal
handlers, as does Python when it multiplies ints, and this is asked while a verb has the engine's
turn.
"""
import cython

WINDOW_NS = 10_000_000_000      # lately: one to two of these
WINDOW_MAX_NS = 64 * WINDOW_NS
RESERVE_MIN = 8                 # segments that stay beyond what was in use lately
RESERVE_SHIFT = 3               # or so much of the capacity: an eighth
BEGIN_MIN = 8                   # segments beyond these for which giving back begins
BEGIN_SHIFT = 4                 # or so much of the capacity: a sixteenth
PAUSE_NS = 1_000_000_000        # after a try in vain, and twice as long after the next


@cython.cclass
class Tide:
    """What one worker has seen of the segments in use, and what it gave back."""

    def __cinit__(self):
        self.window = WINDOW_NS
        self.pause = PAUSE_NS

    def look(
        self,
        used: cython.longlong,
        most: cython.longlong,
        backed: cython.longlong,
        limit: cython.longlong,
        now: cython.longlong,
        destroyed: cython.bint = False,
    ):
        """How many segments are to go.

        used: segments in use now; most: at most, since the last look; backed: segments that have
        memory; limit: that may have. destroyed: a pool was, and what was in use before says nothing
        any more of what will be."""
        self.judge(backed, now)
        if now - self.since >= self.window:
            self.before = self.most if now - self.since < 2 * self.window else used
            self.most = used
            self.since = now
        self.most = max(self.most, most)
        if destroyed and self.window == WINDOW_NS:
            self.before = self.most = used
        spare = backed - max(self.most, self.before) - max(RESERVE_MIN, limit >> RESERVE_SHIFT)
        if now < self.not_before or spare < max(BEGIN_MIN, limit >> BEGIN_SHIFT):
            return 0
        return spare

    def judge(self, backed, now):
        """Lengthen the window if half of what went last was taken again soon; if not, it is as ever
        again after a while."""
        if self.given and now - self.given_at < 4 * self.window and backed >= self.low + (self.given + 1) // 2:
            self.window = min(2 * self.window, WINDOW_MAX_NS)
            self.given = 0
        elif now - self.given_at >= 8 * self.window:
            self.window = WINDOW_NS
            self.given = 0
        return 0

    def gave(self, count: cython.longlong, backed: cython.longlong, now: cython.longlong):
        """So many segments went, and so many have memory now. None: somebody is reading for
        long."""
        if count == 0:
            self.not_before = now + self.pause
            self.pause = min(2 * self.pause, WINDOW_MAX_NS)
            return
        self.pause = PAUSE_NS
        self.given = count
        self.given_at = now
        self.low = backed
