"""What was told is kept true: news of records, from their owner to everybody who was told. Section 6 of docs/casework-protocol.md."""
