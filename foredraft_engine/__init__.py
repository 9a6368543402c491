"""The model and the mathematics. Knows nothing of gRPC, of services, or of who asks."""
