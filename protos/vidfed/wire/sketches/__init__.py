"""Standing questions in outline (docs/adr/0092)."""
