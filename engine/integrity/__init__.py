"""The world stands still: stopping every worker, checking every invariant, repairing; and the check
that stops nobody."""
