"""Owns the cache that people hold: keys of all kinds, values of all kinds, times to live, and who
computes what is missing. It stands on what callers hold, and the engine does not know of it."""
