"""A conversation as a value: entries, rules, state, clocks. Pure."""
