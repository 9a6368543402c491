"""What both services do with bytes before anything else: they decode and check them.

Three doors: requests to the target, requests to the draft, and what a draft answers the target.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message
from prometheus_client import CollectorRegistry

from draft_service.service import Drafting
from draft_service.settings import DraftSettings
from foredraft.v1 import draft_pb2, target_pb2
from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.messages import MessageError, proposal_from
from foredraft_serving.metrics import DraftMetrics
from foredraft_serving.parsing import parser
from foredraft_serving.ranges import check_asked
from target_service.request.defaults import Config
from target_service.request.identity import Identity
from target_service.request.plan import ServiceLimits
from target_service.request.planner import Planner
from target_service.watermark_detection import Detector
from tests.models import bundled

_NOBODY = Identity("", "")
Door = Callable[[bytes], None]


def doors(folder: Path) -> dict[str, Door]:
    """Returns a function for each door, which raises what would be INTERNAL. folder: an empty one,
    for named configs.
    """
    model = bundled("target")
    limits = ServiceLimits(256, 8, model_ids=model.scored_ids)
    planner = Planner(model, Config(), limits, [folder], saving=True)
    detector = Detector(planner.prompts, model.scored_ids, None)
    drafting = Drafting(DraftSettings(), DraftMetrics(CollectorRegistry()))

    def generate(message: target_pb2.GenerateRequest) -> None:
        checked = planner.checked(message, _NOBODY)
        planner.planned(checked, checked.parsed.prompts)

    def tokenize(message: target_pb2.TokenizeRequest) -> None:
        for prompt in message.prompts or [message.prompt]:
            planner.prompts.ids(prompt)

    def detokenize(message: target_pb2.DetokenizeRequest) -> None:
        planner.prompts.texts(message.token_ids, message.skip_special_tokens)

    def draft(message: draft_pb2.DraftRequest) -> None:
        if message.WhichOneof("message") == "commit":
            check_asked(message.commit)
            drafting.check_ids("accepted_ids", message.commit.accepted_ids)
        else:
            drafting.session(message.open)

    validations: dict[type[Message], Callable[[Any], object]] = {
        target_pb2.GenerateRequest: generate,
        target_pb2.TokenizeRequest: tokenize,
        target_pb2.DetokenizeRequest: detokenize,
        target_pb2.DetectWatermarkRequest: detector.detect,
        target_pb2.GetGenerationConfigRequest: lambda m: planner.configs.get(m.name),
        target_pb2.SaveGenerationConfigRequest: lambda m: planner.check_config(m.config),
        draft_pb2.DraftRequest: draft,
    }
    return {
        "target": _requests(target_pb2, validations),
        "draft": _requests(draft_pb2, validations),
        "answers": _answer,
    }


def requests_of(module: Any) -> list[Any]:
    """Returns the classes of the requests to a service, in the order of its methods."""
    (service,) = module.DESCRIPTOR.services_by_name.values()
    return [getattr(module, method.input_type.name) for method in service.methods]


def _requests(module: Any, validations: dict[type[Message], Callable[[Any], object]]) -> Door:
    """Returns a door whose first byte says which method the others are for."""
    kinds = requests_of(module)
    for kind in kinds:
        assert kind in validations or not kind.DESCRIPTOR.fields or kind is _FLAG, kind

    def enter(raw: bytes) -> None:
        kind = kinds[raw[0] % len(kinds)] if raw else kinds[0]
        try:
            message = parser(kind)(raw[1:])
            validations.get(kind, bool)(message)
        except InvalidFieldError as error:
            if not error.fields:
                raise AssertionError("a refusal names its field") from error

    return enter


_FLAG = draft_pb2.GetDraftInfoRequest  # a single bool, which nothing checks


def _answer(raw: bytes) -> None:
    """Takes what a draft answers."""
    try:
        answer = draft_pb2.DraftResponse.FromString(raw)
    except DecodeError:
        return  # gRPC ends the stream, and the text goes on without it
    for outcome in answer.block.outcomes:
        try:
            proposal_from(outcome.proposal, bundled("target").known_ids).first(4, 2)
        except MessageError:
            continue
