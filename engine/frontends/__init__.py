"""Owns the two front ends that transcendent memory was made for: a guest's page cache (cleancache)
and its swap areas (frontswap). They use the public calls of pools, and nothing below."""
