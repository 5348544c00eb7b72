"""The arena gets smaller or larger: resizing, and following a memory limit."""
