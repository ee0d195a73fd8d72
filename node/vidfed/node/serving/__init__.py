"""The node on the network."""
