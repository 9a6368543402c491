"""grpclib: gRPC for Python without gRPC's own core, over a library of HTTP/2."""

import ssl

from grpclib.client import Channel, StreamStreamMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.exceptions import GRPCError, StreamTerminatedError

from tests.foreign.call import Call, Outcome, Trust, named


class Grpclib:
    """grpclib in the test's own process, with this project's generated messages."""

    name = "grpclib"

    async def make(self, call: Call) -> Outcome:
        host, _, port = call.address.rpartition(":")
        async with Channel(host, int(port), ssl=_tls(call.trust)) as channel:
            kind = _KINDS[call.descriptor.client_streaming, call.descriptor.server_streaming]
            request_type = type(call.requests[0][0])
            method = kind(channel, call.path, request_type, call.answer_type)
            answers: list[object] = []
            try:
                async with method.open(timeout=call.timeout_s) as stream:
                    for i, (request, awaited) in enumerate(call.requests, 1):
                        last = i == len(call.requests) and not call.descriptor.client_streaming
                        await stream.send_message(request, end=last)
                        for _ in range(awaited):
                            answers.append(await stream.recv_message())
                    if call.cancels:
                        await stream.cancel()
                        return Outcome("CANCELLED", answers=answers)
                    if call.descriptor.client_streaming:
                        await stream.end()
                    answers += [answer async for answer in stream]
            except TimeoutError:
                return Outcome("DEADLINE_EXCEEDED", answers=answers)
            except GRPCError as error:
                details = named(error.details or ())
                return Outcome(error.status.name, error.message or "", answers, details)
            except (OSError, StreamTerminatedError) as error:
                return Outcome("", str(error), answers)
        return Outcome("OK", answers=answers)


_KINDS = {
    (False, False): UnaryUnaryMethod,
    (False, True): UnaryStreamMethod,
    (True, True): StreamStreamMethod,
}


def _tls(trust: Trust | None) -> ssl.SSLContext | None:
    if trust is None:
        return None
    context = ssl.create_default_context(cafile=trust.ca)
    context.set_alpn_protocols(["h2"])
    if trust.shown:
        context.load_cert_chain(trust.shown.cert, trust.shown.key)
    return context
