"""Runs in a pod, as `python -c <this file> RUN_FOLDER [weights]`: the results of a run folder as tar on stdout.

It imports nothing of the package, since the image may have another version than this machine. Files appear and are
replaced while a stage works; each is read as it was when it was opened. A line before the tar has the number of bytes
to come.
"""

from __future__ import annotations

import glob
import os
import sys
import tarfile

NO_FOLDER = 3
RESULTS = (
    "evaluation/**",
    "export/README.md",
    "export/recipe.yaml",
    "train/recipe.yaml",
    "train/metrics.jsonl",
    "train/reward_function.*",
    "train/versions.json",
    "stages/*.json",
)
WEIGHTS = ("export/**",)


def files(root: str, patterns: tuple[str, ...]) -> dict[str, str]:
    """Name in the archive -> path. Leaves out what is not finished; links become the files they name."""
    found = {}
    for pattern in patterns:
        for path in glob.glob(os.path.join(glob.escape(root), pattern), recursive=True):
            if os.path.isfile(path) and not path.endswith(".tmp") and ".partial/" not in path:
                found[os.path.relpath(path, root)] = path
    return dict(sorted(found.items()))


def manifest_of_data(root: str) -> dict[str, str]:
    """The manifest of the pairs, which are outside the run folder if runs share them."""
    import yaml

    try:
        with open(os.path.join(root, "train", "recipe.yaml"), encoding="utf-8") as handle:
            data = yaml.safe_load(handle)["data"]["export"]["output_dir"]
    except (FileNotFoundError, KeyError, TypeError):
        data = None
    path = os.path.join(data or os.path.join(root, "data"), "manifest.json")
    return {"data/manifest.json": path} if os.path.isfile(path) else {}


def main(root: str, weights: bool) -> int:
    if not os.path.isdir(root):
        print(f"{root}: no such folder", file=sys.stderr)
        return NO_FOLDER
    chosen = {**files(root, RESULTS + WEIGHTS if weights else RESULTS), **manifest_of_data(root)}
    print(sum(os.path.getsize(path) for path in chosen.values() if os.path.exists(path)), flush=True)
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", dereference=True) as archive:
        for name, path in chosen.items():
            try:
                with open(path, "rb") as handle:
                    archive.addfile(archive.gettarinfo(arcname=name, fileobj=handle), handle)
            except FileNotFoundError:
                continue  # replaced or removed since it was listed
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "weights" in sys.argv[2:]))
