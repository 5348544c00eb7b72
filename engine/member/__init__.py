"""What a process is in an arena: its attachment and its pools as it sees them, what it may do, back
ends by name, counters."""
