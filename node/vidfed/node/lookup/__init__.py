"""One lookup at a node, from bytes to a signed answer."""
