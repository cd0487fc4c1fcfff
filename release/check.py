"""`make release-check VERSION=X.Y.Z`: all of a release that needs no account, in a folder that goes afterwards.

Each step prints what it found; the first that fails ends the check with one line and exit code 1. What this machine
lacks (a registry, Buildah) is told as not run, and counted at the end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from release import ROOT, ReleaseError, changelog, registry, sbom, versions
from release.chart import CHART, helm, package

BIN = Path(sys.executable).parent
_IMAGE = re.compile(r"^\s*(?:- )?image: \"?([^\s\"]+)\"?$", re.MULTILINE)


class NotRun(Exception):
    """A step whose tool is not on this machine."""


# ---- steps ---------------------------------------------------------------------------------------


def agree(version: str, _: Path) -> str:
    found = versions.check(version)
    return f"{version} in {len(found)} places of {len({mention.file for mention in found})} files"


def described(version: str, _: Path) -> str:
    body = changelog.section(changelog.FILE.read_text(encoding="utf-8"), version)
    return f"{len(re.findall(r'^- ', body, re.MULTILINE))} entries"


def built(version: str, work: Path) -> str:
    """Wheel and sdist, which `twine check` takes, and which install into empty environments and run there."""
    run(BIN / "uv", "build", "--quiet", "--no-config", "--out-dir", work / "dist", ROOT)
    files = sorted(file for file in (work / "dist").iterdir() if file.name.startswith("pairwise_rm-"))
    names = [f"pairwise_rm-{version}-py3-none-any.whl", f"pairwise_rm-{version}.tar.gz"]
    if [file.name for file in files] != names:
        raise ReleaseError(f"built {', '.join(file.name for file in files)}; {' and '.join(names)} were expected")
    run(BIN / "python", "-m", "twine", "check", "--strict", *files)
    return ", ".join(f"{file.name} {file.stat().st_size // 1000} kB" for file in files)


def installed(version: str, work: Path) -> str:
    """With what the package itself asks for: nothing of torch, vLLM, verl and Ray, which are extras."""
    told = []
    for file in sorted((work / "dist").glob("pairwise_rm-*")):
        empty = work / f"venv-{file.suffix[1:]}"
        run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, empty)
        run(BIN / "uv", "pip", "install", "--quiet", "--python", empty / "bin" / "python", file)
        command = empty / "bin" / "pairwise-rm"
        if (said := run(command, "--version").strip()) != f"pairwise-rm {version}":
            raise ReleaseError(f"{file.name}: pairwise-rm --version says {said!r}")
        run(command, "--help")
        run(command, "validate", "qwen3-14b-8x80g")
        packages = run(BIN / "uv", "pip", "list", "--quiet", "--python", empty / "bin" / "python", "--format", "json")
        told.append(f"{file.suffix[1:]}: {len(json.loads(packages))} packages, --help and validate run")
    return "; ".join(told)


def billed(_: str, work: Path) -> str:
    """What both locks hold, as CycloneDX."""
    return ", ".join(f"{file.name} {count} packages" for file, count in sbom.write(work / "dist").items())


def charted(version: str, work: Path) -> str:
    """The chart from its .tgz: linted and rendered with each of its values files."""
    chart = package(version, work)
    presets = sorted(CHART.glob("values-*.yaml"))
    for preset in [None, *presets]:
        values = [f"--values={preset}"] if preset else []
        helm("lint", "--strict", "--quiet", str(chart), *values)
        rendering = helm("template", "judge", str(chart), *values)
        if f"helm.sh/chart: pairwise-rm-{version}" not in rendering:
            raise ReleaseError(f"{chart.name}: what it renders does not name chart pairwise-rm-{version}")
        if preset is None:
            images = images_of(rendering)
    return f"{chart.name} {chart.stat().st_size // 1000} kB, {len(presets) + 1} renderings, image {', '.join(images)}"


def pushed(version: str, work: Path) -> str:
    """An image and the chart with its digest in a registry, and what the chart renders when it comes from there."""
    if not registry.is_here():
        raise NotRun("docker-registry is not installed (a package of Debian and Ubuntu)")
    if not (tool := shutil.which("buildah")):
        raise NotRun("buildah is not installed (a package of Debian and Ubuntu)")
    with registry.registry() as host:
        image = f"{host}/pairwise-rm/pairwise-rm:{version}"
        digest = push_small_image(tool, image, work)
        folder = work / "with-digest"
        folder.mkdir()
        charts = f"oci://{host}/pairwise-rm/charts"
        helm("push", str(package(version, folder, f"{image}@{digest}")), charts, "--plain-http")
        chart = (f"{charts}/pairwise-rm", "--version", version, "--plain-http")
        images = images_of(helm("template", "judge", *chart))
        if images != [f"{image}@{digest}"]:
            raise ReleaseError(f"the chart from the registry names {', '.join(images)}, not {image}@{digest}")
        own = ("--set=image.repository=registry.example.com/own", "--set=image.tag=mine")
        if (images := images_of(helm("template", "judge", *chart, *own))) != ["registry.example.com/own:mine"]:
            raise ReleaseError(f"with an image of one's own, the chart names {', '.join(images)}")
        helm("pull", *chart, "--untar", "--untardir", str(work / "pulled"))
    return f"image {digest[:19]}…, helm push, template and pull of {charts}/pairwise-rm, which names this digest"


STEPS: dict[str, Callable[[str, Path], str]] = {
    "version": agree,
    "changelog": described,
    "wheel and sdist, twine check": built,
    "installed into empty venvs": installed,
    "SBOM of each lock": billed,
    "chart from its .tgz": charted,
    "local OCI registry": pushed,
}


# ---- what they share -----------------------------------------------------------------------------


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints. Raises ReleaseError with its last words."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=ROOT.parent, env={**os.environ, **environment}
    )
    if done.returncode:
        raise ReleaseError(f"{' '.join(words)}: exit {done.returncode}\n{(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout


def images_of(rendering: str) -> list[str]:
    return sorted(set(_IMAGE.findall(rendering)))


def push_small_image(buildah: str, image: str, work: Path) -> str:
    """Its digest in the registry. An image of one file, in a storage of its own, so that nothing is left behind."""
    storage = (buildah, "--root", work / "storage", "--runroot", work / "run", "--storage-driver", "vfs")
    (work / "file").write_text("pairwise-rm\n", encoding="utf-8")
    container = run(*storage, "from", "scratch").strip()
    run(*storage, "copy", "--quiet", container, work / "file", "/file")
    run(*storage, "commit", "--quiet", container, image)
    run(*storage, "push", "--quiet", "--tls-verify=false", "--digestfile", work / "digest", image)
    return (work / "digest").read_text(encoding="utf-8").strip()


def check(version: str) -> int:
    """Runs the steps; 0 when none failed."""
    not_run = 0
    with tempfile.TemporaryDirectory(prefix="release-check-") as folder:
        for name, step in STEPS.items():
            began = time.monotonic()
            try:
                state, told = "ok", step(version, Path(folder))
            except NotRun as reason:
                state, told, not_run = "not run", str(reason), not_run + 1
            except ReleaseError as error:
                print(f"error: {name}: {error}", file=sys.stderr)
                return 1
            print(f"{state:<7}  {name:<28}  {time.monotonic() - began:5.1f} s  {told}", flush=True)
    print(f"{version} can be released" + (f"; {not_run} of {len(STEPS)} steps did not run here" if not_run else ""))
    return 0


if __name__ == "__main__":
    sys.exit(check(sys.argv[1] if len(sys.argv) > 1 else versions.version_of_package()))
