"""Searches: beams and candidates, several continuations of one prompt at a time."""
