"""A model from its files, its rows, and the proof that they give what the model gives."""
