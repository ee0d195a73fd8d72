"""A member's node: records, imports, policy, the lookup pipeline, the server."""
