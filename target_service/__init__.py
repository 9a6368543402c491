"""The target service: owns the generation loop, verifies proposals, streams the result."""
