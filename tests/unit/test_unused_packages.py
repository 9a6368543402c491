"""transformers imports installed packages that a service does not use, and a service does not."""

import subprocess
import sys

from foredraft_engine.unused_packages import UNUSED

SLOW = ("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "sympy")
_CODE = f"""
import importlib.util, sys
from foredraft_engine.unused_packages import unused_packages_hidden
with unused_packages_hidden():
    import target_service.serve, draft_service.serve
    from transformers import LlamaForCausalLM
print([name for name in {SLOW} if name in sys.modules])
print(sorted(set({UNUSED}) & set(sys.modules)))
from transformers.utils import import_utils
print(all(
    getattr(import_utils, f"is_{{name}}_available")()
    == (importlib.util.find_spec(name) is not None) for name in {UNUSED}
))
import torch, torch._dynamo
print(torch.distributed.is_available() and torch._dynamo.disable(len) is not len)
from foredraft_engine.cache.quantizers import BACKENDS, quantizer
print(not BACKENDS["hqq"].is_installed or quantizer("hqq", 4) is not None)
"""


def test_they_stay_out_and_can_be_used_afterwards() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CODE],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.splitlines() == ["[]", "[]", "True", "True", "True"]
