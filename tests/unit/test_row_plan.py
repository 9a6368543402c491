"""Rows are planned from the memory that is free, and what does not fit is refused."""

from pathlib import Path

import pytest
import torch

from foredraft_engine.errors import ModelError
from foredraft_engine.model.free_memory import free_bytes, host_free_bytes
from foredraft_engine.scheduling.row_plan import RowLimits, RowPlan, plan_rows, size_text

MIB = 1 << 20


def limits(tokens: int, longest: int = 32768, spare: int = 0) -> RowLimits:
    return RowLimits(tokens * 1000, "--memory", 1000, longest, 16, spare)


@pytest.mark.parametrize(
    ("tokens", "rows", "length", "plan"),
    [
        (1 << 20, 0, 0, RowPlan(16, 32768)),  # everything fits
        (1 << 17, 0, 0, RowPlan(16, 8192)),  # shorter ones, but long enough
        (1 << 15, 0, 0, RowPlan(8, 4096)),  # fewer
        (1 << 13, 0, 0, RowPlan(4, 2048)),  # no fewer, but shorter
        (1 << 15, 0, 16384, RowPlan(2, 16384)),
        (1 << 15, 32, 0, RowPlan(32, 1024)),
        (1 << 15, 32, 1024, RowPlan(32, 1024)),
        (1 << 20, 1, 65536, RowPlan(1, 32768)),  # the model's own limit
    ],
)
def test_what_fits(tokens: int, rows: int, length: int, plan: RowPlan) -> None:
    assert plan_rows(limits(tokens), rows, length) == plan


def test_spare_places_count() -> None:
    assert plan_rows(limits(1 << 15, spare=256), 0, 256) == RowPlan(16, 256)
    assert plan_rows(limits(1 << 12, spare=256), 0, 256) == RowPlan(8, 256)


@pytest.mark.parametrize(
    ("rows", "length", "said"),
    [
        (
            4,
            300,
            r"^rows and max_length: 4 rows .* --rows 3 or --max-length 250 or a larger --memory,",
        ),
        (0, 2000, r"^max_length: 1 row of .* use --max-length 1000 or a larger --memory,"),
        (
            100,
            0,
            r"^rows: 100 rows of 64 .* use --rows 15 or --max-length 10 or a larger --mem",
        ),
    ],
)
def test_what_does_not_fit_is_refused(rows: int, length: int, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        plan_rows(limits(1000), rows, length)


def test_a_device_without_memory_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^device: 4 rows of 64 tokens take .* or free memory"):
        plan_rows(limits(10), 0, 0)


def machine(root: Path, group: str, files: dict[str, str]) -> Path:
    """Makes the files by which Linux tells of memory; 100 MiB are available."""
    told = {"proc/meminfo": "MemTotal: 204800 kB\nMemAvailable: 102400 kB\n"}
    for name, text in (told | {"proc/self/cgroup": group} | files).items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


STAT = f"anon 1\nactive_file {2 * MIB}\ninactive_file {3 * MIB}\n"
STAT_1 = f"active_file 0\ntotal_active_file {2 * MIB}\ntotal_inactive_file {3 * MIB}\n"


@pytest.mark.parametrize(
    ("group", "files", "left_mib"),
    [
        ("", {}, 100),
        ("0::/\n", {"memory.max": "max", "memory.current": "1", "memory.stat": STAT}, 100),
        (
            "0::/\n",
            {"memory.max": f"{50 * MIB}", "memory.current": f"{20 * MIB}", "memory.stat": STAT},
            35,
        ),
        (  # the limit is that of a group above
            "0::/pods/one\n",
            {
                "pods/memory.max": f"{50 * MIB}",
                "pods/memory.current": f"{20 * MIB}",
                "pods/memory.stat": STAT,
                "pods/one/memory.max": "max",
                "pods/one/memory.current": "1",
                "pods/one/memory.stat": STAT,
            },
            35,
        ),
        (  # version 1, in a container that sees the top alone
            "5:cpu:/a\n4:memory:/pods/one\n0::/\n",
            {
                "memory/memory.limit_in_bytes": f"{50 * MIB}",
                "memory/memory.usage_in_bytes": f"{20 * MIB}",
                "memory/memory.stat": STAT_1,
            },
            35,
        ),
        (
            "4:memory:/\n",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "1",
                "memory/memory.stat": STAT_1,
            },
            100,
        ),
    ],
)
def test_the_limits_of_control_groups_count(
    group: str, files: dict[str, str], left_mib: int, tmp_path: Path
) -> None:
    found = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert host_free_bytes(machine(tmp_path, group, found)) == left_mib * MIB


def test_files_that_the_process_reads_are_not_free(tmp_path: Path) -> None:
    status = {"proc/self/status": "Name:\ttarget\nRssAnon:\t9 kB\nRssFile:\t30720 kB\n"}
    assert host_free_bytes(machine(tmp_path, "", status)) == 70 * MIB


def test_this_machine_has_memory() -> None:
    assert free_bytes(torch.device("cpu")) > 10 * MIB


@pytest.mark.parametrize(
    ("size_bytes", "told"),
    [(0, "0 bytes"), (1100, "1.07 KiB"), (25480000, "24.3 MiB"), (1020 << 30, "1020 GiB")],
)
def test_a_size_has_the_unit_that_people_read(size_bytes: int, told: str) -> None:
    assert size_text(size_bytes) == told
