"""transformers imports installed packages that a service does not use, and a service does not.

What a start takes is counted by what it imports and reads, and not by a clock.
"""

import subprocess
import sys
from pathlib import Path

from foredraft_engine.unused_packages import UNUSED

ROOT = Path(__file__).resolve().parents[2]
SLOW = ("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "sympy")
_CODE = f"""
import importlib.util, sys
from foredraft_engine.unused_packages import unused_packages_hidden
with unused_packages_hidden():
    import target_service.serve, draft_service.serve
    from transformers import LlamaForCausalLM
from foredraft_engine.tracing import compiled_before
compiled_before.was_compiled("a model")
print([name for name in {SLOW} if name in sys.modules])
print(sorted(set({UNUSED}) & set(sys.modules)))
from transformers.utils import import_utils
print(all(
    getattr(import_utils, f"is_{{name}}_available")()
    == (importlib.util.find_spec(name) is not None) for name in {UNUSED}
))
import torch, torch._dynamo
from torch._inductor.runtime.cache_dir_utils import cache_dir
print(str(compiled_before._directory()) == cache_dir())
print(torch.distributed.is_available() and torch._dynamo.disable(len) is not len)
from foredraft_engine.cache.quantizers import BACKENDS, quantizer
print(not BACKENDS["hqq"].is_installed or quantizer("hqq", 4) is not None)
from pathlib import Path
import transformers
folders = [p for p in Path(transformers.models.__path__[0]).rglob("*") if p.is_dir()]
listed = import_utils.create_import_structure_from_path.__wrapped__.cache_info().misses
print(listed < 1.5 * len([p for p in folders if p.name != "__pycache__"]))
files = [p.read_text() for p in Path(transformers.models.__path__[0]).rglob("*.py")]
fetch = import_utils.fetch__all__
own = fetch.__closure__[0].cell_contents
print(fetch is not own and all(fetch(text) == own(text) for text in files))
"""
_SERVED = f"""
import asyncio, logging, os, sys
from foredraft_engine.unused_packages import unused_packages_hidden
with unused_packages_hidden():
    import target_service.serve as target, draft_service.serve as draft
from draft_service.settings import DraftSettings
from target_service.settings import TargetSettings
from foredraft import AsyncClient

ready = asyncio.Queue()
class Ready(logging.Handler):
    def emit(self, record):
        if record.msg.startswith("ready on"):
            ready.put_nowait(record.args[0])

async def served(service, settings):
    serving = asyncio.create_task(service.serve(settings))
    address = asyncio.create_task(ready.get())
    await asyncio.wait([serving, address], return_when=asyncio.FIRST_COMPLETED)
    return serving.result() if serving.done() else address.result()

async def main():
    logging.basicConfig(level="INFO")
    logging.getLogger("foredraft_serving.entry").addHandler(Ready())
    here = dict(metrics_listen="127.0.0.1:0", listen="127.0.0.1:0", max_length=256, rows=2)
    drafts = await served(draft, DraftSettings(model="demo/models/draft", **here))
    address = await served(target, TargetSettings(model="demo/models/target", draft=drafts, **here))
    async with AsyncClient(address) as client:
        while "ready" not in (await client.info()).drafts.values():
            await asyncio.sleep(0.1)
        result = await client.generate("def main(", max_new_tokens=32, num_assistant_tokens=3)
    print(result.stats.accepted > 0)
    print([name for name in {SLOW} if name in sys.modules])
    sys.stdout.flush()
    os._exit(0)

asyncio.run(main())
"""


def _said(code: str) -> list[str]:
    """Returns the lines that a Python of its own prints."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_they_stay_out_and_can_be_used_afterwards() -> None:
    assert _said(_CODE) == ["[]", "[]", *["True"] * 6]


def test_a_served_pair_has_not_imported_torchs_compiler() -> None:
    assert _said(_SERVED) == ["True", "[]"]
