"""Owns this engine as a peer, in each of the ways in which it keeps a value, one file each."""
