"""Forward passes that are recorded once, and replayed without the host's work."""
