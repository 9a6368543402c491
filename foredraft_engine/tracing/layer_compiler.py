"""Traces and compiles a function of tensors, such as a decoder layer with its weights.

The function's own code is traced with some sizes as symbols and compiled by torch's inductor, which
keeps what it compiled on disk. All layers of one kind share a function, since weights are
arguments: a model of thirty layers is compiled in the time of one.

Unstable parts of torch are used here alone; they take a second to import. This module knows nothing
of layers or passes.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch._inductor
import torch._inductor.config as inductor_config
import torch.utils._pytree as pytree
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)

from foredraft_engine.tracing.layer_graph import Example, LayerGraph

_OPTIONS: dict[str, Any] = {
    # Processes that compile would outlive the start of the service.
    "compile_threads": 1,
    # A weight in oneDNN's order has no strides to check.
    "size_asserts": False,
    # Kernels are called by compiled code too, which takes a third of Python's time.
    "cpp_wrapper": True,
}


def trace(
    function: Callable[..., Any],
    examples: Sequence[Example],
    samples: Sequence[Mapping[str, int]],
) -> LayerGraph:
    """Traces and compiles a function.

    Args:
        function: takes tensors.
        examples: the tensors to trace it with. Sizes of different names must differ.
        samples: values of the sizes, for all of which the graph has to hold.

    Raises:
        ValueError: the graph would not hold for other calls.
        Exception: whatever torch raises for code that depends on values, or that it has no kernel
            for.
    """
    structure: list[Any] = []

    def flat(*args: Tensor) -> list[Tensor]:
        leaves, spec = pytree.tree_flatten(function(*args))
        structure[:] = [spec]
        return leaves

    shapes = ShapeEnv()
    fake = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
    symbolic = [_symbolic(fake, example) for example in examples]
    names = _names(symbolic, examples)  # before tracing finds that some are equal
    graph = make_fx(flat, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*symbolic)
    _check_tensors(graph)
    _check_sizes(shapes, names, samples)
    with inductor_config.patch(_OPTIONS), warnings.catch_warnings():
        # Torch warns of its own classes when it reads what it kept on disk.
        warnings.simplefilter("ignore", FutureWarning)
        compiled = torch._inductor.standalone_compile(
            graph, [*symbolic], dynamic_shapes="from_graph", donate_graph_module=True
        )
    return LayerGraph(compiled, structure[0])


def _symbolic(fake: FakeTensorMode, example: Example) -> Tensor:
    """Returns a tensor without contents, whose named sizes are symbols."""
    if not example.sizes:
        return fake.from_tensor(example.tensor, static_shapes=True)
    dynamic = [
        DimDynamic.DYNAMIC if at in example.sizes else DimDynamic.STATIC
        for at in range(example.tensor.dim())
    ]
    context: Any = StatelessSymbolicContext(dynamic)
    return fake.from_tensor(example.tensor, symbolic_context=context)


def _names(symbolic: Sequence[Tensor], examples: Sequence[Example]) -> dict[Any, str]:
    """Returns the name of the size that each symbol stands for."""
    return {
        tensor.shape[at].node.expr: name  # type: ignore[attr-defined]
        for tensor, example in zip(symbolic, examples, strict=True)
        for at, name in example.sizes.items()
    }


def _check_tensors(graph: GraphModule) -> None:
    """Refuses a graph that holds a tensor of its own, which another layer would share."""
    for node in graph.graph.nodes:
        if node.op == "get_attr" and getattr(graph, node.target).numel() > 1:
            raise ValueError(f"a tensor is neither argument nor weight: {node.target}")


def _check_sizes(
    shapes: ShapeEnv, names: Mapping[Any, str], samples: Sequence[Mapping[str, int]]
) -> None:
    """Refuses a graph in which the code chose a way that other sizes do not go."""
    for guard in shapes.guards:
        for sample in samples:
            values = {symbol: sample[name] for symbol, name in names.items()}
            if not bool(guard.expr.subs(values)):
                raise ValueError(f"the code goes other ways for other sizes: {guard.expr}")
