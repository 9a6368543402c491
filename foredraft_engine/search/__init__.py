"""The arithmetic of searches that follow several texts at a time."""
