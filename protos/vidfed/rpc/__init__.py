"""gRPC over the federation's TLS: channels, and the life of a serving process."""
