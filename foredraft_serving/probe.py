"""Tells by its exit code whether a service is ready: `python -m foredraft_serving.probe HOST:PORT
[NAME]`.

It serves where there are no gRPC probes, as in a compose file. This module knows nothing of the
services.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_PATIENCE_S = 3.0


def is_serving(address: str, name: str) -> bool:
    """Asks for the health of a service once. name: "liveness" or "readiness"."""
    with grpc.insecure_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=name)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_PATIENCE_S)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(not is_serving(sys.argv[1], *(sys.argv[2:] or ["readiness"])))
