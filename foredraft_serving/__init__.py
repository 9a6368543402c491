"""The gRPC shell of both services: settings, server, status codes, metrics, logs.

This package knows nothing of torch.
"""
