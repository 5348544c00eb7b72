"""Owns the policies written plainly: which of `frames` pages is resident after each request, and
nothing else.

Lists of names, newest first. The engine must agree to the last miss when it has one shard and as
many frames. S3-FIFO: Yang et al., SOSP 2023. SIEVE: Zhang et al., NSDI 2024.
"""

class Fifo:
    """Also the frame of the others: `request` answers whether it was a hit."""

    hits_max = 0

    def __init__(self, frames):
        self.frames = frames
        self.hits = {}              # resident page -> hits counted
        self.queue = []

    def request(self, page):
        if page in self.hits:
            self.hits[page] = min(self.hits_max, self.hits[page] + 1)
            return True
        self.admit(page)
        return False

    def admit(self, page):
        while len(self.hits) >= self.frames:
            self.evict()
        self.hits[page] = 0
        self.queue.insert(0, page)

    def evict(self):
        self.leave(self.queue.pop())

    def leave(self, page):
        del self.hits[page]


class Clock(Fifo):
    hits_max = 1

    def evict(self):
        while True:
            page = self.queue.pop()
            if not self.hits[page]:
                return self.leave(page)
            self.hits[page] = 0
            self.queue.insert(0, page)


class Sieve(Fifo):
    hits_max = 1
    hand = None                     # a page, or None: at the oldest

    def evict(self):
        at = len(self.queue) - 1 if self.hand is None else self.queue.index(self.hand)
        while self.hits[self.queue[at]]:
            self.hits[self.queue[at]] = 0
            at = at - 1 if at else len(self.queue) - 1
        self.hand = self.queue[at - 1] if at else None
        self.leave(self.queue.pop(at))


class S3Fifo(Fifo):
    """With a window: hits in the young half of the small queue do not count."""

    hits_max = 3
    young = 0                       # pages of `small`, from its newest on, that are in its young half

    def __init__(self, frames):
        super().__init__(frames)
        self.small, self.main = [], []
        self.ghosts, self.clock = {}, 0         # page -> when it became a ghost

    def admit(self, page):
        # A ghost counts while it is among the last nine tenths of as many as there are frames in
        # use.
        age = (len(self.small) + len(self.main)) * 9 // 10 + 1
        known = page in self.ghosts and self.clock - self.ghosts[page] < age
        if known:
            del self.ghosts[page]
        while len(self.hits) >= self.frames:
            self.evict()
        self.hits[page] = 0
        (self.main if known else self.small).insert(0, page)
        if not known:
            self.young += 1
            for _ in range(2):      # so many a push
                if self.young > len(self.hits) // 20 + 1:
                    self.young -= 1
                    self.hits[self.small[self.young]] = 0

    def evict(self):
        while True:
            if self.small and (not self.main or len(self.small) * 10 >= len(self.small) + len(self.main)):
                page = self.small.pop()
                self.young = min(self.young, len(self.small))
                if self.hits[page]:
                    self.hits[page] = 0
                    self.main.insert(0, page)
                    continue
                self.clock += 1
                self.ghosts[page] = self.clock
                return self.leave(page)
            page = self.main.pop()
            if not self.hits[page]:
                return self.leave(page)
            self.hits[page] -= 1
            self.main.insert(0, page)


MODELS = {"fifo": Fifo, "clock": Clock, "sieve": Sieve, "s3fifo": S3Fifo}
