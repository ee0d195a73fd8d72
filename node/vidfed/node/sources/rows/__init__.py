"""From rows of a source to statements that travel and are checked again."""
