"""Decoding strategies, one file each. A strategy is a coroutine over the engine; batching is invisible to it."""
