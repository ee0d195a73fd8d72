"""Keys, envelopes and what closes secret files."""
