"""What is done when memory is short: moving what must stay, and who goes (policies, shares of pools
and clients, caps)."""
