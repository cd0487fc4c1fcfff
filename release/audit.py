"""`make audit`: known vulnerabilities of what the locks pin, as pip-audit finds them.

Those that are accepted are in requirements/audit-exceptions.yaml, each with its reason and a last day. A package that
pip-audit could not look up fails the audit as well; pip-audit itself passes over it.

    python -m release.audit [OPTION OF PIP-AUDIT…]     --vulnerability-service osv, for example
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release import ROOT, ReleaseError

REQUIREMENTS = ROOT / "requirements"
LOCKS = ("cpu.txt", "cpu.overrides", "gpu.txt", "dev.txt")
"""cpu.txt leaves torch to cpu.overrides."""
EXCEPTIONS = REQUIREMENTS / "audit-exceptions.yaml"


class Pin(NamedTuple):
    name: str
    version: str


class Accepted(NamedTuple):
    """A vulnerability that is known and left, and until when."""

    id: str
    package: str
    why: str
    until: date


class Found(NamedTuple):
    """What pip-audit says of one pin: a vulnerability with the versions that fix it, or why it was not looked up."""

    pin: Pin
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]
    text: str
    skipped: str | None = None


def pins(folder: Path = REQUIREMENTS, locks: Iterable[str] = LOCKS) -> dict[Pin, list[str]]:
    """All versions that a lock names for any Python and platform, and the locks that name them."""
    found: defaultdict[Pin, list[str]] = defaultdict(list)
    for lock in locks:
        for line in (folder / lock).read_text(encoding="utf-8").splitlines():
            if not line or line.startswith("#"):
                continue
            requirement = Requirement(line)
            for one in requirement.specifier:
                if one.operator != "==":
                    raise ReleaseError(f"requirements/{lock}: {line}: expected one version, NAME==VERSION")
                found[Pin(canonicalize_name(requirement.name), one.version)].append(lock)
    return dict(found)


def accepted(text: str) -> list[Accepted]:
    """The exceptions of a file: a list of mappings with id, package, why, until (a date), and nothing else."""
    entries = []
    for number, entry in enumerate(yaml.safe_load(text) or [], 1):
        if not isinstance(entry, dict) or set(entry) != set(Accepted._fields):
            raise ReleaseError(f"{EXCEPTIONS.name}: entry {number}: expected {', '.join(Accepted._fields)}")
        one = Accepted(**entry)
        if not isinstance(one.until, date) or not all(isinstance(value, str) and value.strip() for value in one[:3]):
            raise ReleaseError(f"{EXCEPTIONS.name}: entry {number}: expected texts, and a date as until: 2027-01-31")
        entries.append(one)
    return entries


def ask(asked: Sequence[Pin], options: Sequence[str] = ()) -> list[Found]:
    """What pip-audit finds. It takes one version of a package at a time, so it is called as often as that needs."""
    found: list[Found] = []
    for round_ in _rounds(asked):
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.write("".join(f"{pin.name}=={pin.version}\n" for pin in round_))
            file.flush()
            command = [sys.executable, "-m", "pip_audit", "--requirement", file.name, "--no-deps", "--disable-pip"]
            command += ["--format", "json", "--progress-spinner", "off", *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1) or not done.stdout.strip():
            last = (done.stderr.strip() or "no output").splitlines()[-1]
            raise ReleaseError(f"pip-audit: exit {done.returncode}: {last}")
        found += _read(json.loads(done.stdout), round_)
    return found


def _rounds(asked: Sequence[Pin]) -> Iterator[list[Pin]]:
    versions: defaultdict[str, list[Pin]] = defaultdict(list)
    for pin in asked:
        versions[pin.name].append(pin)
    for number in range(max(map(len, versions.values()), default=0)):
        yield [of_name[number] for of_name in versions.values() if number < len(of_name)]


def _read(told: Mapping[str, Any], asked: Sequence[Pin]) -> Iterator[Found]:
    of_name = {pin.name: pin for pin in asked}
    answered = set()
    for entry in told["dependencies"]:
        pin = of_name[canonicalize_name(entry["name"])]
        answered.add(pin)
        if skipped := entry.get("skip_reason"):
            yield Found(pin, (), (), "", skipped)
        for one in entry.get("vulns", []):
            text = " ".join(str(one.get("description") or "").split())
            yield Found(pin, (one["id"], *one.get("aliases", [])), tuple(one.get("fix_versions", [])), text)
    for pin in sorted(set(asked) - answered):
        yield Found(pin, (), (), "", "pip-audit says nothing of it")


def complaints(
    found: Sequence[Found], exceptions: Sequence[Accepted], locks: Mapping[Pin, Sequence[str]], today: date
) -> Iterator[str]:
    """A line for each vulnerability that is not accepted, each package not looked up and each exception too many."""
    used = set()
    for one in found:
        where = f"{one.pin.name} {one.pin.version} ({', '.join(locks[one.pin])})"
        if one.skipped:
            yield f"{where}: not audited: {one.skipped}"
            continue
        matching = [
            entry for entry in exceptions if canonicalize_name(entry.package) == one.pin.name and entry.id in one.ids
        ]
        used.update(matching)
        if not matching:
            fixed = f"fixed in {', '.join(one.fixed_in)}" if one.fixed_in else "no version fixes it"
            yield f"{where}: {one.ids[0]}: {fixed}: {one.text[:200]}"
        elif all(entry.until < today for entry in matching):
            yield f"{where}: {matching[0].id}: accepted until {matching[0].until} only ({EXCEPTIONS.name})"
    for entry in exceptions:
        if entry not in used and not any(one.skipped for one in found):
            yield f"{entry.package}: {entry.id}: is not found any more; remove it from {EXCEPTIONS.name}"


def main(options: Sequence[str]) -> int:
    try:
        locks = pins()
        exceptions = accepted(EXCEPTIONS.read_text(encoding="utf-8"))
        found = ask(list(locks), options)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = list(complaints(found, exceptions, locks, date.today()))
    for line in lines:
        print(line)
    missed = sum(one.skipped is not None for one in found)
    counts = f"{missed} not audited, {len(lines) - missed} to be mended, {len(exceptions)} accepted"
    print(f"{len(locks)} pins of {', '.join(LOCKS)}: {counts}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
