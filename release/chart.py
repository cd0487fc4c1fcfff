"""The chart as it is published: its version, and in its values the image by tag and digest.

    python -m release.chart VERSION dist [--image REPOSITORY:TAG@sha256:…]    prints the .tgz

The digest goes into `image.tag`, behind the tag: who sets a repository and a tag of their own replaces both, as
values-kind.yaml does. In `image.digest`, which goes before any tag, it would stay behind and name an image that the
other repository does not have.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release import ROOT, ReleaseError

CHART = ROOT / "charts" / "pairwise-rm"
HELM = ROOT / ".tools" / "helm"
_IMAGE = re.compile(r"(?P<repository>[\w.-]+(?::\d+)?(?:/[\w.-]+)+):(?P<tag>[\w.-]+@sha256:[0-9a-f]{64})")
_VALUES = re.compile(
    r"(?P<head>^image:\n(?:  .*\n)*?  repository: ).*(?P<between>\n(?:  .*\n)*?  tag: ).*$", re.MULTILINE
)


def with_image(values: str, image: str) -> str:
    """values.yaml's text with this image as its default."""
    named = _IMAGE.fullmatch(image)
    if not named:
        raise ReleaseError(f"--image {image}: REPOSITORY:TAG@sha256:… is needed")
    text, count = _VALUES.subn(
        lambda found: f'{found["head"]}{named["repository"]}{found["between"]}"{named["tag"]}"', values
    )
    if count != 1:
        raise ReleaseError("values.yaml has no `image` with `repository` and `tag`")
    return text


def package(version: str, folder: Path, image: str | None = None) -> Path:
    """The packaged chart in `folder`. Raises ReleaseError with Helm's words."""
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / CHART.name
        shutil.copytree(CHART, copy)
        if image:
            values = copy / "values.yaml"
            values.write_text(with_image(values.read_text(encoding="utf-8"), image), encoding="utf-8")
        versions = ("--version", version, "--app-version", version)
        helm("package", str(copy), *versions, "--destination", str(folder))
    return folder / f"{CHART.name}-{version}.tgz"


def helm(*arguments: str) -> str:
    """What helm prints. Raises ReleaseError with its words."""
    done = subprocess.run([str(HELM), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m release.chart")
    parser.add_argument("version")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image")
    arguments = parser.parse_args()
    try:
        print(package(arguments.version, arguments.folder, arguments.image))
    except ReleaseError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
