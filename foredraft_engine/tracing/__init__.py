"""Passes whose Python runs once: decoder layers are traced and compiled."""
