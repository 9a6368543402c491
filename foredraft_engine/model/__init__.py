"""Models: loading them, running them over rows, and proving that the rows are right."""
