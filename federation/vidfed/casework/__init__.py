"""What follows a hit: conversations between two members, sealed to persons. The protocol: docs/casework-protocol.md.

```
core/       entries, rules, state and clocks of a conversation; pure, no time, no disk, no network
sealing     contents to readers and back
storage/    conversations, outbox and forks in tables; takes the caller's transaction
carriage/   verifying, delivering, fetching
```

It is below `node` and `federation`, which both use it, and knows neither.
"""
