"""The draft service proposes tokens for target services to verify."""
