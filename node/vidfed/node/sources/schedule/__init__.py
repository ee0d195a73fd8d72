"""When a source is looked at next, and how its last runs went."""
