"""What gRPC keeps to at the ports of a service: the bounds of connections, streams and messages.

They hold before anything of ours sees a call.
"""

import resource

from foredraft.wire.limits import MAX_MESSAGE_BYTES

MAX_CONNECTIONS = 4096
"""The connections of a port; further ones are closed at once."""
MAX_STREAMS = 1000
"""The streams of one connection; callers that have more let them wait."""
_MOST_FILES_SHARE = 0.5  # of the files that a process may have open, for connections of a port

Options = list[tuple[str, int]]


def port_options() -> Options:
    """Returns the options of every port."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = MAX_CONNECTIONS
    if files != resource.RLIM_INFINITY:
        # A process without files left could not even answer a probe.
        connections = min(connections, int(_MOST_FILES_SHARE * files))
    return [
        ("grpc.so_reuseport", 0),  # a port in use is an error, and no second server shares it
        # Who connects and does not speak HTTP/2 is gone by then; gRPC's default is two minutes.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        # A stream that is reset counts as open until the caller answers a ping, each of them and
        # not one in a hundred: who opens and resets streams all the time waits like others.
        ("grpc.http2.ping_on_rst_stream_percent", 100),
        # Of calls that wait to be taken up gRPC drops some at random, honest ones among them, as
        # CANCELLED. By default it begins at a thousand, which one connection can reach.
        ("grpc.server.max_pending_requests", 10 * MAX_STREAMS),
        ("grpc.server.max_pending_requests_hard_limit", 20 * MAX_STREAMS),
    ]


def call_options() -> Options:
    """Returns the options of the port on which calls are served."""
    return [
        *port_options(),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 5_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Callers then look names up anew and find servers that were added. Running calls are not
        # cut off.
        ("grpc.max_connection_age_ms", 300_000),
        # More than a request may have, so that a refusal can name the field that is too long. gRPC
        # itself refuses anything larger.
        ("grpc.max_receive_message_length", 2 * MAX_MESSAGE_BYTES),
    ]


def health_options() -> Options:
    """Returns the options of the port for health alone."""
    return [
        *port_options(),
        ("grpc.max_receive_message_length", 4096),  # a request is the name of a service
        # Who watches health connects anew, and who holds a stream without a word is gone.
        ("grpc.max_connection_age_ms", 300_000),
        ("grpc.max_connection_age_grace_ms", 10_000),
    ]
