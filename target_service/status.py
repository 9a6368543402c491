"""The gRPC status of what a target service raises."""

import grpc

from foredraft_serving.overload import NotServedError
from foredraft_serving.status import ENGINE_ERRORS, PERMISSION_DENIED
from target_service.request.config_files import ConfigPlaceError, ConfigPlaceFullError
from target_service.request.named_configs import SavingNotAllowedError
from target_service.running_calls import AbortedError

STATUS = {
    **ENGINE_ERRORS,
    AbortedError: grpc.StatusCode.CANCELLED,
    NotServedError: grpc.StatusCode.UNIMPLEMENTED,
    SavingNotAllowedError: PERMISSION_DENIED,
    ConfigPlaceFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ConfigPlaceError: grpc.StatusCode.FAILED_PRECONDITION,
}
