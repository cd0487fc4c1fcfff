"""Downloads a source's files from the Hugging Face hub, or says in one line why it cannot.

A file's name is downloaded as it stands. A folder or a pattern needs the list of the dataset's files, and the revision
is resolved once, so that all files are of one commit.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from pairwise_rm.convert.converters import HubFile
from pairwise_rm.convert.source import Source, in_folder, sided
from pairwise_rm.convert.source_rows import KINDS, SUFFIXES
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.hub import HubFault, dataset_files, download
from pairwise_rm.recipe.model import SourceConfig


def from_hub(config: SourceConfig, default: HubFile | None, official: bool) -> Source:
    """The files of a hub source; what the config leaves out is the converter's `default`."""
    repo, path, test_path = config.repo, config.path, config.test_path
    revision, sha256 = config.revision, config.sha256
    if default is not None:
        if path is None:
            test_path = test_path or default.test_path
        repo, path = repo or default.repo, path or default.path
        if repo == default.repo:
            revision = revision or default.revision
            if (path, revision) == (default.path, default.revision):
                sha256 = sha256 or default.sha256
    if not repo or not path:
        key = "path" if repo else "repo"
        raise InputError(f"data.configs.{key}: missing, the converter {config.source} has no hub dataset of its own")
    dataset = _Dataset(repo, revision)
    train = [(dataset.download(name), name) for name in dataset.names(path, "data.configs.path")]
    test = []
    if test_path and official:
        test = [(dataset.download(name), name) for name in dataset.names(test_path, "data.configs.test_path")]
    found = re.search(r"/snapshots/([0-9a-f]{40})/", train[0][0].as_posix())
    return Source(sided(train, test), sha256, repo, found[1] if found else dataset.revision)


class _Dataset:
    def __init__(self, repo: str, revision: str | None) -> None:
        self.repo = repo
        self.revision = revision
        self._files: list[str] | None = None

    def names(self, path: str | Sequence[str], key: str) -> list[str]:
        """The names of the files at these places, in order."""
        places = [path] if isinstance(path, str) else path
        return sorted({name for place in places for name in self._at(place, key)})

    def _at(self, place: str, key: str) -> Sequence[str]:
        if not glob.has_magic(place):
            if place.endswith(SUFFIXES):
                return [place]
            if PurePosixPath(place).suffix:
                raise InputError(f"{key}: {PurePosixPath(place).name} is of no known kind, expected {KINDS}")
            folder = [Path(name) for name in self._listed() if name.startswith(f"{place.rstrip('/')}/")]
            direct = [name for name in folder if name.parent == Path(place)]
            return [name.as_posix() for name in in_folder(direct, f"{key}: {place} of hub dataset {self.repo}")]
        matching = [name for name in self._listed() if _matches(name, place)]
        if not matching:
            raise InputError(f"{key}: no file of hub dataset {self.repo} matches {place}")
        if odd := next((name for name in matching if not name.endswith(SUFFIXES)), None):
            raise InputError(f"{key}: {PurePosixPath(odd).name} is of no known kind, expected {KINDS}")
        return matching

    def _listed(self) -> list[str]:
        """All files of the dataset. Pins the revision to the commit that was listed."""
        if self._files is None:
            with _explained(self.repo, self._where("its list of files")):
                self.revision, self._files = dataset_files(self.repo, self.revision)
        return self._files

    def download(self, path: str) -> Path:
        with _explained(self.repo, self._where(path)):
            return download(self.repo, path, dataset=True, revision=self.revision)

    def _where(self, what: str) -> str:
        at = f" at {self.revision[:12]}" if self.revision else ""
        return f"hub dataset {self.repo}, {what}{at}"


def _matches(name: str, pattern: str) -> bool:
    """As `glob` matches local files: `*` stays within a folder, `**/` is any number of them."""
    if "**/" in pattern:
        return fnmatch.fnmatchcase(name, pattern.replace("**/", "*"))
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


@contextlib.contextmanager
def _explained(repo: str, where: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into one line for the user."""
    from huggingface_hub import errors

    try:
        yield
    except HubFault as error:
        raise StageError(f"{where}: the hub {error}; try again later") from error
    except errors.HFValidationError as error:
        raise InputError(f"data.configs.repo: {repo!r} is no hub name, expected owner/name") from error
    except errors.GatedRepoError as error:
        raise InputError(f"{where}: access refused; accept the dataset's terms and set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{where}: no such revision (data.configs.revision)") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(f"{where}: no such dataset, or a private one and HF_TOKEN does not open it") from error
    except errors.LocalEntryNotFoundError as error:
        raise StageError(f"{where}: not in the cache, and {_not_allowed()}") from error
    except errors.EntryNotFoundError as error:
        raise InputError(f"{where}: no such file in the dataset (data.configs.path)") from error
    except errors.HfHubHTTPError as error:
        raise _refused(where, error.response.status_code) from error
    except errors.OfflineModeIsEnabled as error:
        raise StageError(f"{where}: {_not_allowed()}; a file's whole name needs no list") from error
    except OSError as error:
        raise StageError(f"{where}: cannot be downloaded: {error.strerror or error}") from error


def _refused(where: str, status: int) -> InputError | StageError:
    if status in (401, 403):
        return InputError(f"{where}: access refused (HTTP {status}); set HF_TOKEN to a token that may read it")
    return StageError(f"{where}: the hub answered HTTP {status}; try again later")


def _not_allowed() -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids the download"
    return f"the hub at {constants.ENDPOINT} does not say what it is; HF_ENDPOINT may name something else than a hub"
