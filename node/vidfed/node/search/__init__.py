"""What a node can search, and which of what is found is told."""
