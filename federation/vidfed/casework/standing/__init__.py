"""Standing lookups: "tell me when somebody learns it". Section 5 of docs/casework-protocol.md."""
