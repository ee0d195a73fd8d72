"""What both sides of a lookup know. Pure."""
