"""`make sbom`: a software bill of materials of each lock, as CycloneDX; the one of an image is made in its build.

python -m release.sbom FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pairwise_rm
from release import ROOT, ReleaseError
from release.audit import Pin, pins

LOCKS = {"cpu": ("cpu.txt", "cpu.overrides"), "gpu": ("gpu.txt",)}
"""cpu.txt leaves torch to cpu.overrides."""


def write(folder: Path) -> dict[Path, int]:
    """A file for each lock, and how many packages it names: all of them, for any Python and platform."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, locks in LOCKS.items():
        wanted = set(pins(locks=locks))
        file = folder / f"pairwise-rm-{pairwise_rm.__version__}-{name}.cdx.json"
        document = _made(wanted)
        if missing := wanted - named(document):
            raise ReleaseError(f"{file.name} lacks {', '.join(sorted(pin.name for pin in missing))}")
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        written[file] = len(wanted)
    return written


def named(document: dict[str, object]) -> set[Pin]:
    """The packages that a CycloneDX document names."""
    components = document["components"]
    assert isinstance(components, list)
    return {Pin(one["name"], one["version"]) for one in components}


def _made(wanted: set[Pin]) -> dict[str, object]:
    lines = "".join(f"{pin.name}=={pin.version}\n" for pin in sorted(wanted))
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=lines)
    if done.returncode:
        raise ReleaseError(f"cyclonedx-py: exit {done.returncode}: {done.stderr.strip()[-500:]}")
    document: dict[str, object] = json.loads(done.stdout)
    # pyproject.toml leaves the version to the package.
    metadata = document["metadata"]
    assert isinstance(metadata, dict)
    metadata["component"]["version"] = pairwise_rm.__version__
    return document


def main(folder: str) -> int:
    try:
        written = write(Path(folder))
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for file, count in written.items():
        print(f"{file}: {count} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
