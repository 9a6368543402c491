"""The wheel is the SDK: nothing of the services, and nothing that needs torch."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_holds_the_sdk_alone(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(tmp_path),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(archive.read(n).decode() for n in names if n.endswith("METADATA"))
    roots = {name.split("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"foredraft"}
    assert {
        "foredraft/py.typed",
        "foredraft/v1/target_pb2.py",
        "foredraft/v1/target_pb2.pyi",
    } <= set(names)
    required = [
        line.split()[1]
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra" not in line
    ]
    assert {r.split(">")[0].split("<")[0] for r in required} == {
        "grpcio",
        "protobuf",
        "prometheus-client",
    }
