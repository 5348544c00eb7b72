"""A crash-safe shared-memory substrate: arena, worker table, lock, journal, slab, recovery.

Owns nothing itself. Knows nothing of the layers above; they import it, never the other way.
"""
