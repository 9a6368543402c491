"""How much memory is free on a device, for a service to plan with.

This module knows nothing of what it is planned for.
"""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_UNLIMITED = 1 << 60  # what control groups say for no limit is more than that


def free_bytes(device: torch.device) -> int:
    """Returns the bytes that this process can still take on a device."""
    backend: Any = getattr(torch, device.type, None)
    if device.type != "cpu" and hasattr(backend, "mem_get_info"):
        backend.empty_cache()  # what torch has freed and kept
        return int(backend.mem_get_info(device)[0])
    return host_free_bytes()


def host_free_bytes(root: Path = Path("/")) -> int:
    """Returns the bytes that this process can still take of the host's memory.

    On Linux these are the memory that is available, and what the control groups of the process
    leave of it. What they hold of files counts as free, because the kernel gives it back; but not
    what this process has mapped and read: weights that stay in their file are read in every step.

    Args:
        root: of the file system.
    """
    told = root / "proc" / "meminfo"
    if not told.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available_kb = _numbers(told.read_text())["MemAvailable:"]
    return max(0, min([available_kb << 10, *_left_by_groups(root)]) - _mapped_bytes(root))


def trim_heap() -> None:
    """Gives the memory that was freed back to the system, which glibc keeps for itself."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None:
        trim(0)


def _mapped_bytes(root: Path) -> int:
    """Returns the bytes of files that the process has mapped and that are in memory."""
    told = root / "proc" / "self" / "status"
    lines = told.read_text().splitlines() if told.is_file() else ()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssFile:")), 0)


def _left_by_groups(root: Path) -> Iterator[int]:
    """Yields what each control group above the process leaves, in version 2 or 1."""
    told = root / "proc" / "self" / "cgroup"
    for line in told.read_text().splitlines() if told.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        group = top / path.lstrip("/")
        # In a container the path can be the host's, and only the top be there.
        for folder in [group, *group.parents]:
            if (left := _left_by(folder, *names)) is not None:
                yield left
            if folder == top:
                break


def _left_by(folder: Path, limit: str, usage: str, prefix: str) -> int | None:
    """Returns what one control group leaves; None if it has no limit."""
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        held = _numbers((folder / "memory.stat").read_text())
    except FileNotFoundError:
        return None
    if most == "max" or int(most) >= _UNLIMITED:
        return None
    files = held[f"{prefix}active_file"] + held[f"{prefix}inactive_file"]
    return int(most) - used + files


def _numbers(text: str) -> dict[str, int]:
    """Reads lines of a name and a number."""
    return {words[0]: int(words[1]) for line in text.splitlines() if (words := line.split())}
