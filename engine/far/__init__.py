"""Far tiers: where pages are that have left the arena."""
