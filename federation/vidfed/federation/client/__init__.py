"""The investigator's side."""
