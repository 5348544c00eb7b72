"""Page-accessible memory: the op table and its back ends."""
