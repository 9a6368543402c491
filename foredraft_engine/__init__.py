"""The engine: a model, its cache, and the mathematics of speculative decoding.

This package knows nothing of gRPC or of services.
"""
