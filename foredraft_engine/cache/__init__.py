"""The key-value cache: rows with a fixed number of places, and quantized rows."""
