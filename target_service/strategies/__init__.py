"""Decoding strategies, one file each.

A strategy is a coroutine over the engine; it does not see the batch.
"""
