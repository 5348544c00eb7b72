"""The arena gets smaller, larger, tidier: moving what lies in segments that leave, resizing,
following a memory limit."""
