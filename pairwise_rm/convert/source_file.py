"""Finds the source's file: a local path, or a download from the hub whose revision and checksum are pinned.

It is only located here; `pairwise_rm.convert.source_rows` reads it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from pairwise_rm.convert.converters import HubFile
from pairwise_rm.convert.source_rows import SUFFIXES
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.recipe.model import SourceConfig


class SourceFile(NamedTuple):
    """A file to read. `sha256` is what it must have, or None; `repo` and `revision` where it came from the hub."""

    path: Path
    sha256: str | None
    repo: str | None = None
    revision: str | None = None


def locate(config: SourceConfig, hub: HubFile | None) -> SourceFile:
    """The source's file on this machine, downloaded where need be. `hub` is the converter's own hub file.

    Raises InputError where the file is not there or is of no known kind, StageError where the hub is out of reach.
    """
    source = _local(config) if config.type == "local" else _from_hub(config, hub)
    if not source.path.name.endswith(SUFFIXES):
        raise InputError(f"data.configs.path: {source.path.name} is of no known kind, expected {', '.join(SUFFIXES)}")
    return source


def _local(config: SourceConfig) -> SourceFile:
    for key in ("repo", "revision"):
        if getattr(config, key) is not None:
            raise InputError(f"data.configs.{key}: only a source of `type: huggingface` has one")
    if not config.path:
        raise InputError(f"data.configs.path: missing, expected a {', '.join(SUFFIXES)} file")
    path = Path(config.path).expanduser()
    if path.is_dir():
        raise InputError(f"data.configs.path: {path} is a folder, expected a file")
    if not path.exists():
        raise InputError(f"data.configs.path: {path} does not exist")
    if not os.access(path, os.R_OK):
        raise InputError(f"data.configs.path: {path} cannot be read: permission denied")
    if path.stat().st_size == 0:
        raise InputError(f"data.configs.path: {path} is empty, expected preference rows")
    return SourceFile(path, config.sha256)


def _from_hub(config: SourceConfig, default: HubFile | None) -> SourceFile:
    repo = config.repo or (default.repo if default else None)
    path = config.path or (default.path if default else None)
    if not repo or not path:
        key = "path" if repo else "repo"
        raise InputError(f"data.configs.{key}: missing, the converter {config.source} has no hub dataset of its own")
    revision, sha256 = config.revision, config.sha256
    if default and repo == default.repo:
        revision = revision or default.revision
        if (path, revision) == (default.path, default.revision):
            sha256 = sha256 or default.sha256
    local = _download(repo, path, revision)
    found = re.search(r"/snapshots/([0-9a-f]{40})/", local.as_posix())
    return SourceFile(local, sha256, repo, found[1] if found else revision)


def _download(repo: str, path: str, revision: str | None) -> Path:
    from huggingface_hub import errors, hf_hub_download

    where = f"hub dataset {repo}, {path}" + (f" at {revision[:12]}" if revision else "")
    try:
        return Path(hf_hub_download(repo, path, repo_type="dataset", revision=revision))
    except errors.HFValidationError as error:
        raise InputError(f"data.configs.repo: {repo!r} is no hub name, expected owner/name") from error
    except errors.GatedRepoError as error:
        raise InputError(f"{where}: access refused; accept the dataset's terms and set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{where}: no such revision (data.configs.revision)") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(f"{where}: no such dataset, or a private one and HF_TOKEN does not open it") from error
    except errors.LocalEntryNotFoundError as error:
        raise StageError(f"{where}: not in the cache, and {_out_of_reach()}") from error
    except errors.EntryNotFoundError as error:
        raise InputError(f"{where}: no such file in the dataset (data.configs.path)") from error
    except errors.HfHubHTTPError as error:
        raise _refused(where, error.response.status_code) from error
    except errors.HTTPError as error:  # of its HTTP client: httpx, or httpx2 since huggingface_hub 2
        raise StageError(f"{where}: {_out_of_reach()}: {error}") from error
    except OSError as error:
        raise StageError(f"{where}: cannot be downloaded: {error.strerror or error}") from error


def _refused(where: str, status: int) -> InputError | StageError:
    if status in (401, 403):
        return InputError(f"{where}: access refused (HTTP {status}); set HF_TOKEN to a token that may read it")
    return StageError(f"{where}: the hub answered HTTP {status}; try again later")


def _out_of_reach() -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids the download"
    return f"the hub at {constants.ENDPOINT} is out of reach"
