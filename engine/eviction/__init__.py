"""Who goes when memory is short: policies, shares of pools and clients, caps, and the room that is
made."""
