"""Owns the policies written plainly: which of `frames` pages is resident after each request, and
nothing else; and how several pools share the frames of their client.

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
        self.moved = []             # pages that came to the head of a queue, for who asks

    def push(self, queue, page):
        queue.insert(0, page)
        self.moved.append(page)

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
        self.push(self.queue, page)

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
            self.push(self.queue, page)


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
        self.ghosts, self.clock = {}, [0]       # page -> when it became a ghost; ghosts there ever were

    def admit(self, page):
        known = self.recall(page, len(self.hits))
        while len(self.hits) >= self.frames:
            self.evict()
        self.enter(page, known, len(self.hits) + 1)

    def recall(self, page, pages):
        """A ghost counts while it is among the last nine tenths of as many as there are pages in
        the shard."""
        age = pages * 9 // 10 + 1
        known = page in self.ghosts and self.clock[0] - self.ghosts[page] < age
        if known:
            del self.ghosts[page]
        return known

    def enter(self, page, known, pages):
        """`pages`: in the shard, of all pools, with this one."""
        self.hits[page] = 0
        self.push(self.main if known else self.small, page)
        if not known:
            self.young += 1
            for _ in range(2):      # so many a push
                if self.young > pages // 20 + 1:
                    self.young -= 1
                    self.hits[self.small[self.young]] = 0

    def evict(self):
        while True:
            if self.small and (not self.main or len(self.small) * 10 >= len(self.small) + len(self.main)):
                page = self.small.pop()
                self.young = min(self.young, len(self.small))
                if self.hits[page]:
                    self.hits[page] = 0
                    self.push(self.main, page)
                    continue
                self.clock[0] += 1
                self.ghosts[page] = self.clock[0]
                return self.leave(page)
            page = self.main.pop()
            if not self.hits[page]:
                return self.leave(page)
            self.hits[page] -= 1
            self.push(self.main, page)


MODELS = {"fifo": Fifo, "clock": Clock, "sieve": Sieve, "s3fifo": S3Fifo}


class Shared:
    """Pools of one client with a cap, in one shard: `policies` by name of the pool, S3-FIFO or
    FIFO.

    The page that goes is of a small queue if a tenth of all pages is in small queues, else of a
    main one; of the pool whose page in front came there first. That pool then goes by its own
    rule."""

    def __init__(self, policies, frames):
        self.frames, self.turn = frames, 0
        self.pools = {name: MODELS[policy](frames) for name, policy in policies.items()}
        self.came = {}          # (pool, page) -> turn in which it came to its place
        clock = [0]
        for pool in self.pools.values():
            pool.clock = clock

    def total(self):
        return sum(len(pool.hits) for pool in self.pools.values())

    def request(self, name, page):
        pool = self.pools[name]
        if page in pool.hits:
            return pool.request(page)
        s3fifo = isinstance(pool, S3Fifo)
        known = s3fifo and pool.recall(page, self.total())
        while self.total() >= self.frames:
            self.evict()
        self.turn += 1
        pool.enter(page, known, self.total() + 1) if s3fifo else pool.admit(page)
        self.stamp(name)
        return False

    def stamp(self, name):
        """What has come to the head of a queue, or is there anew, came now. Ghosts are of all
        pools."""
        pool = self.pools[name]
        for page in pool.moved:
            self.came[name, page] = self.turn
        pool.moved.clear()

    def fronts(self, name):
        """The pages in front of a pool's queues: (small or not, page)."""
        pool = self.pools[name]
        if isinstance(pool, S3Fifo):
            return [(small, queue[-1]) for small, queue in ((True, pool.small), (False, pool.main)) if queue]
        return [(small, pool.queue[-1]) for small in (True, False) if pool.queue]

    def evict(self):
        small = 10 * sum(len(pool.small) for pool in self.pools.values() if isinstance(pool, S3Fifo))
        wanted = small != 0 and small >= self.total()
        fronts = [(self.turn - self.came[name, page] + 1, kind, name)
                  for name in self.pools for kind, page in self.fronts(name)]
        for choice in ([one for one in fronts if one[1] == wanted], [one for one in fronts if one[1] != wanted]):
            if choice:
                oldest = max(age for age, _, _ in choice)
                name = next(name for age, _, name in choice if age == oldest)
                break
        self.pools[name].evict()
        self.stamp(name)
