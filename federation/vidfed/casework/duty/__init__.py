"""Who is called when somebody should look at once: the rota, its escalation, and the call (docs/casework-protocol.md, 1.5)."""
