"""The gRPC shell of both services:

settings, server, status codes, metrics. Knows nothing of torch.
"""
