"""The key-value cache: rows of fixed places, and rows whose older positions are quantized."""
