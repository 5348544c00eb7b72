"""Back ends that lie in the arena: page bytes as they are, or compressed."""
