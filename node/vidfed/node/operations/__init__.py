"""What operators of a node ask about it."""
