"""Decoding strategies, one file each.

A strategy is a coroutine over the engine and has the shape of `Strategy`. It does not see the
batch.
"""
