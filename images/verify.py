"""A check in the build: the image has the versions of the lock, whichever base image it is built on.

The gpu target takes torch and what is compiled for it from its base, and the lock adds the rest. A base with another
torch builds without an error and fails on the first GPU, so each version is compared here. CUDA's libraries are left to
torch: the base may carry newer ones on purpose.

    verify.py LOCK [--left-to-torch FILE] [--sbom FILE] [NAME==VERSION…]

With --sbom the software bill of materials that was made of the image must name each of them too, in that version.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PLUGIN = "pairwise_rm_cpu"


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def named_by(sbom: Path) -> dict[str, str]:
    """Packages of a CycloneDX file, and their versions."""
    components = json.loads(sbom.read_text(encoding="utf-8"))["components"]
    return {canonicalize_name(one["name"]): one["version"] for one in components}


def faults(wanted: list[str], left_to_torch: set[str], sbom: dict[str, str] | None = None) -> list[str]:
    """What is absent, or there in another version than the requirement wants, or otherwise in the SBOM."""
    found = []
    for requirement in map(Requirement, wanted):
        if requirement.name in left_to_torch or not (requirement.marker is None or requirement.marker.evaluate()):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = "absent"
        if installed == "absent" or not requirement.specifier.contains(installed, prereleases=True):
            found.append(f"{requirement.name}: {installed}, wanted {requirement.specifier}")
        elif sbom is not None and (named := sbom.get(canonicalize_name(requirement.name), "absent")) != installed:
            found.append(f"{requirement.name}: {installed}, in the SBOM {named}")
    if PLUGIN not in entry_points(group="vllm.platform_plugins").names:
        found.append(f"vLLM's platform plugin {PLUGIN} is not registered: install the package itself, not its sources")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lock", type=Path)
    parser.add_argument("--left-to-torch", type=Path)
    parser.add_argument("--sbom", type=Path)
    parser.add_argument("wanted", nargs="*")
    arguments = parser.parse_intermixed_args()
    left_to_torch = set(lines(arguments.left_to_torch)) - {"torch"} if arguments.left_to_torch else set()
    wanted = lines(arguments.lock) + arguments.wanted
    if found := faults(wanted, left_to_torch, named_by(arguments.sbom) if arguments.sbom else None):
        sys.exit("\n".join(["the image is not what its lock says (change BASE_IMAGE or the lock):", *found]))
    print(f"{len(wanted)} versions are the lock's")


if __name__ == "__main__":
    main()
