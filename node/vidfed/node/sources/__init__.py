"""Existing databases, folders and feeds that a node follows: read only, in charge of their records, and told with their age."""
