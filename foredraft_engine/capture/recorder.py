"""Recordings of what a device is asked to do, by CUDA graphs.

This module knows nothing of passes, or of when one is recorded.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")


class Recorder(Protocol):
    """Records work on a device."""

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Records work that reads and writes tensors at fixed addresses.

        Returns:
            The tensors that a replay writes, undefined until then, and what replays the work.

        Raises:
            RuntimeError: the work waits for the device, or needs numbers of the host.
        """


class CudaRecorder:
    """Records CUDA graphs, which share their memory: one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        # Libraries choose kernels and take memory in their first call, which no graph may hold.
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may pin memory meanwhile, which is no part of the recording.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            made = work()
        return made, graph.replay
