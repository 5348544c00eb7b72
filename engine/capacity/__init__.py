"""The arena gets smaller or larger: resizing, following a memory limit, giving back what lies free;
and tending it."""
