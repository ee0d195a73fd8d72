"""A national unit's node and gateway in one process, for a unit that one process serves well. Knows both; neither knows the other."""
