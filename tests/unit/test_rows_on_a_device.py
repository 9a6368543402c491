"""Rows of every kind of model give on a device the logits that they give on the CPU.

The device pretends, see `tests.pretended`: it refuses what mixes its tensors with the host's.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foredraft_engine.feed import Feed, Tree
from foredraft_engine.model.rows import Rows
from tests.models import rows_of
from tests.pretended import PretendedDevice
from tests.unit.test_rows import MODELS

TEXT = list(range(40, 64))


def _model(name: str) -> nn.Module:
    model: Any = MODELS[name]()
    # The other implementations choose an operation by the name of the device.
    model.set_experts_implementation("eager")
    made: nn.Module = model
    return made


def logits_of(rows: Rows) -> Tensor:
    """Returns the logits of a ragged pass, after a fork and a rollback, and of a tree."""
    rows.forward([Feed(0, 0, TEXT[:15]), Feed(2, 0, TEXT[5:8])], [0, 0])
    rows.copy_row(0, 1, 12)
    rows.copy_row(0, 1, 14, 12)
    found = [rows.forward([Feed(1, 13, TEXT[13:]), Feed(2, 2, TEXT[7:9])], [8, 2])]
    if rows.branches:
        tree = Tree(24, [24, 24, 25], [[], [], [24]])
        found.append(rows.forward([Feed(1, 24, [7, 8, 9], tree)], [3]))
    return torch.cat([part.flatten() for part in (*found, rows.hidden)])


# Inline rows know the keys that they are to attend to by the class of the tensor, and so does the
# device its own: a tensor cannot be both.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "falcon"])
def test_logits_are_those_of_the_cpu(name: str) -> None:
    device = PretendedDevice()
    with torch.inference_mode():
        own = rows_of(_model(name), 3, 64, 16)
        want = logits_of(own)
        module = device.take(_model(name))
        with device:
            rows = rows_of(module, 3, 64, 16)
            got = logits_of(rows).cpu()
    assert not device.traffic.refused
    abilities = [(r.layout, r.branches, r.quantizes, r.spare, type(r)) for r in (own, rows)]
    assert abilities[0] == abilities[1]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
