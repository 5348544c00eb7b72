"""The shape of what the engine keeps in an arena: structs, page words and flags, regions; and the
record of a call."""
