"""Keys, envelopes, trust directory, credentials, replay memory, TLS, audit log. Knows no protobuf and no hash index."""
