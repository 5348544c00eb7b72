"""Snapshots: an arena's pools as a file, and back."""
