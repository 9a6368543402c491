"""The device thread alone, of all threads of a service, has helpers that compute with it: more
threads than cores would make every kernel wait for sleepers.

A process of its own is asked, since the number is one for all later threads of a process.
"""

import subprocess
import sys

from tests.models import MODELS

_ASK = """
import asyncio, sys, threading, time
import torch
from draft_service.settings import DraftSettings
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.start import start_engine

def loading():
    return [t for t in threading.enumerate() if t.name.startswith("loading")]

async def main():
    settings = DraftSettings(model=sys.argv[1], threads=3, rows=2, max_length=64)
    loaded = await start_engine(settings.model, settings, Callbacks())
    device = await loaded.engine.run(torch.get_num_threads)
    others = [torch.get_num_threads(), await asyncio.to_thread(torch.get_num_threads)]
    until = time.monotonic() + 60
    while loading() and time.monotonic() < until:
        time.sleep(0.01)
    print(device, others, loading())
    loaded.engine.close()

asyncio.run(main())
"""


def test_only_the_device_thread_has_helpers() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _ASK, str(MODELS / "draft")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.stdout == "3 [1, 1] []\n", ended.stderr[-2000:]
