"""The target service owns the generation loop, verifies proposals and streams the result."""
