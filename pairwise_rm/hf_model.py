"""Checks in a second whether a model can be loaded, before Ray, vLLM or verl start.

A local folder is read just far enough: the config, the tokenizer's and the weights' file names, and each
weight file's header against its size, which finds a copy that was cut short. A name like `Qwen/Qwen3-8B`
that is no local folder is a hub model; huggingface_hub finds it, with its own rules for tokens, mirrors and
offline mode.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairwise_rm.errors import InputError, first_line
from pairwise_rm.hub import HubFault, download, patiently, snapshot
from pairwise_rm.recipe.model import ModelConfig

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
_WEIGHT_ENDINGS = (".safetensors", ".bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SMALL = 4 << 20  # bytes; files up to this size are hashed, larger ones known by size and time


class HubOutOfReach(InputError):
    """The model may be right, but the hub cannot be asked from here."""


def is_hub_name(path: str) -> bool:
    """Whether `path` is `owner/name` and not a folder that exists."""
    owner, slash, name = path.partition("/")
    plain = bool(slash and owner and name) and "/" not in name and not path.startswith((".", "~"))
    return plain and not Path(path).exists()


def model_location(path: str) -> str:
    """What to pass to transformers and vLLM: a hub name as it is, a folder as an absolute path."""
    return path if is_hub_name(path) else str(Path(path).expanduser().absolute())


def check_model_folder(path: str, revision: str | None = None) -> None:
    """Raises InputError, with one line, unless `path` holds (or names) a model that can be loaded.

    Needed are a config, a tokenizer, a chat template and complete weights. Of a hub model only the config is
    asked for; its tokenizer is checked when it is loaded.
    """
    if is_hub_name(path):
        _check_hub_model(path, revision)
        return
    folder = Path(path).expanduser()
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "no such model folder"
        raise InputError(f"{path}: {kind}; expected a Hugging Face folder or a hub name (owner/name)")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise InputError(f"{path}: a LoRA adapter, not a model; `pairwise-rm export` merges it into one")
        raise InputError(f"{path}: no config.json; expected a Hugging Face model folder")
    _read_json(folder / "config.json")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(f"{path}: no tokenizer; expected one of {', '.join(_TOKENIZER_FILES)}")
    if not _has_chat_template(folder):
        raise InputError(
            f"{path}: no chat template; expected chat_template.jinja or `chat_template` in tokenizer_config.json"
        )
    _check_weights(folder)


def check_base_model(model: ModelConfig) -> None:
    """As `check_model_folder`, for a recipe's model; the error names the command that makes it, if there is one."""
    if model.make and not Path(model.path).expanduser().exists():
        made_by = f"`pairwise-rm models {model.make} --out {model.path}`"
        raise InputError(f"{model.path}: no such model folder; {made_by} makes it")
    check_model_folder(model.path, model.revision)


def fingerprint(path: str, revision: str | None = None) -> str:
    """Changes when the model changes: over names, contents of small files, sizes and times of large ones."""
    if is_hub_name(path):
        return f"{path}@{revision or 'main'}"
    digest = hashlib.blake2b(digest_size=16)
    folder = Path(path).expanduser()
    for file in sorted(item for item in folder.iterdir() if item.is_file()):
        if file.suffix in (".md", ".html") or file.name.startswith("."):
            continue  # a model card is written after the weights and changes nothing
        stat = file.stat()
        small = stat.st_size <= _SMALL
        content = file.read_bytes() if small else str(stat.st_mtime_ns).encode()
        digest.update(f"{file.name}\0{stat.st_size}\0".encode() + content)
    return digest.hexdigest()


def load_tokenizer(path: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer. Raises InputError when it cannot be loaded or has no chat template."""
    from transformers import AutoTokenizer

    def load() -> Any:
        location = model_location(path)
        return AutoTokenizer.from_pretrained(location, revision=revision, trust_remote_code=trust_remote_code)

    try:
        tokenizer = patiently(load, wait_for_network=False) if is_hub_name(path) else load()
    except HubFault as error:
        raise HubOutOfReach(f"{path}: the tokenizer cannot be loaded: the hub {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: the tokenizer cannot be loaded: {first_line(error)}") from error
    if not tokenizer.chat_template:
        raise InputError(f"{path}: the tokenizer has no chat template; a judge's prompt is a chat message")
    return tokenizer


def read_config(path: str, revision: str | None = None) -> dict[str, Any]:
    """The model's config.json, which is downloaded where it is the hub's. Raises InputError."""
    if not is_hub_name(path):
        return _read_json(Path(path).expanduser() / "config.json")
    with _hub_errors(path):
        return _read_json(download(path, "config.json", revision=revision))


def model_snapshot(name: str, revision: str) -> Path:
    """The folder of a hub model at a revision, downloaded where it is not in the cache. Raises InputError."""
    with _hub_errors(name):
        return snapshot(name, revision)


def _check_hub_model(name: str, revision: str | None) -> None:
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

    with _hub_errors(name):
        try:
            hf_hub_download(name, "config.json", revision=revision, local_files_only=True)
        except errors.LocalEntryNotFoundError:
            # A hub that is out of reach is not waited for: the model is only looked at here.
            url = hf_hub_url(name, "config.json", revision=revision)
            patiently(lambda: get_hf_file_metadata(url), wait_for_network=False)


@contextlib.contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except HubFault as error:
        raise HubOutOfReach(f"{name}: no such local folder, and not in the hub cache: the hub {error}") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(f"{name}: no such local folder, and no hub model that this token may read") from error
    except errors.HfHubHTTPError as error:
        raise InputError(f"{name}: {str(error).splitlines()[0]}") from error
    except (errors.OfflineModeIsEnabled, errors.HTTPError) as error:  # HTTPError: of httpx, or of httpx2
        raise HubOutOfReach(
            f"{name}: no such local folder, and not in the hub cache (hub out of reach, or HF_HUB_OFFLINE set)"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {str(error).splitlines()[0]}") from error


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    settings = folder / "tokenizer_config.json"
    return settings.is_file() and bool(_read_json(settings).get("chat_template"))


def _check_weights(folder: Path) -> None:
    index = next((folder / name for name in _INDEXES if (folder / name).is_file()), None)
    if index is not None:
        shards = sorted(set(_read_json(index).get("weight_map", {}).values()))
        missing = [name for name in shards if not (folder / name).is_file()]
        if missing or not shards:
            what = f"lacks {len(missing)} of {len(shards)} weight files, {missing[0]} first" if shards else "empty"
            raise InputError(f"{index}: {what}")
        files = [folder / name for name in shards]
    else:
        files = sorted(item for item in folder.iterdir() if item.suffix in _WEIGHT_ENDINGS and item.is_file())
    if not files:
        raise InputError(f"{folder}: no weights; expected *.safetensors (or pytorch_model*.bin)")
    for file in files:
        if file.suffix == ".safetensors":
            _check_safetensors(file)
        elif file.stat().st_size == 0:
            raise InputError(f"{file}: an empty file; the copy was cut short")


def _check_safetensors(file: Path) -> None:
    """A safetensors file: 8 bytes with the header's length, a JSON header with offsets, the data."""
    size = file.stat().st_size
    with open(file, "rb") as handle:
        start = handle.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            raise InputError(f"{file}: {size} bytes do not hold a safetensors header; the copy was cut short")
        try:
            header = json.loads(handle.read(length))
            offsets = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: the safetensors header is damaged") from error
    wanted = 8 + length + max(offsets, default=0)
    if size != wanted:
        raise InputError(f"{file}: {size} bytes, {wanted} expected by its header; the copy was cut short")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: expected a JSON object")
    return value
