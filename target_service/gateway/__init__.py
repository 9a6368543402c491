"""The target as a worker of gateways: `vllm.grpc.engine.VllmEngine`, whose stubs the extra
`gateway` brings.
"""

from importlib.util import find_spec

from foredraft_engine.model.loading import LoadedModel
from foredraft_serving.server import Server
from target_service.service import TargetServicer
from target_service.settings import TargetSettings

_SERVICE = "vllm.grpc.engine.VllmEngine"
WATCHES = (f"/{_SERVICE}/SubscribeKvEvents",)
"""The methods whose calls last as long as the service."""


def service_names(settings: TargetSettings) -> tuple[str, ...]:
    """Returns the full names of the services for gateways; none without the extra."""
    return (_SERVICE,) if settings.gateway and find_spec("smg_grpc_proto") else ()


def add_gateway_services(
    server: Server, settings: TargetSettings, hub: TargetServicer, model: LoadedModel
) -> None:
    """Adds the services for gateways, which hand their calls to the hub."""
    if not service_names(settings):
        return
    # Imported here: the stubs are those of an extra.
    from smg_grpc_proto.generated import vllm_engine_pb2_grpc

    from target_service.gateway.engine_service import EngineServicer

    register = vllm_engine_pb2_grpc.add_VllmEngineServicer_to_server
    server.add(register, EngineServicer(hub, model))
