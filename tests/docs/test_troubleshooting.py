"""Every message that a user can meet has an entry in troubleshooting.md, and every entry has a message."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from docs.generate import DOCS, Entry, belongs, entries, entry_of
from docs.messages import Message, all_messages, chart_messages, package_messages
from tests.chart.chart_sentences import sentences, templates
from tests.chart.rendering import refusal

ENTRIES = entries()
MESSAGES = [message for message in all_messages() if message.kind != "row"]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: f"{message.kind}: {message.text[:60]}")
def test_a_message_has_an_entry(message: Message) -> None:
    assert entry_of(message, ENTRIES), f"add this to docs/troubleshooting.yaml: {message.text}"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_an_entry_says_what_to_do_about_messages_that_there_are(entry: Entry) -> None:
    assert entry.found or entry.written
    assert entry.means
    assert entry.do
    for part in entry.match:
        assert any(belongs(message, part) for message in entry.found), f"no message has {part!r} any more"


def test_the_page_shows_every_message_of_the_sources() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    for message in all_messages():
        assert message.text in page


# ---- how messages are found ----------------------------------------------------------------------


def found_in(folder: Path, source: str) -> set[tuple[str, str]]:
    (folder / "errors.py").write_text(
        "class PairwiseError(Exception): ...\nclass InputError(PairwiseError): ...\n"
        "class StageError(PairwiseError): ...\nclass Gone(StageError): ...\n"
    )
    (folder / "module.py").write_text(dedent(source))
    return {(message.kind, message.text) for message in package_messages(folder)}


def test_a_message_is_found_with_names_for_what_varies(tmp_path: Path) -> None:
    source = """
        NAME = "recipe.yaml"
        def load(path, error):
            raise InputError(f"{path}: no {NAME}, {error.reason} at {error.line + 1}")
    """
    assert found_in(tmp_path, source) == {("input", "<path>: no recipe.yaml, <reason> at <…>")}


def test_a_message_of_a_class_below_an_error_is_of_its_kind(tmp_path: Path) -> None:
    assert found_in(tmp_path, "def f():\n    raise Gone('the pod is gone')") == {("stage", "the pod is gone")}


def test_a_message_that_another_function_makes_is_found(tmp_path: Path) -> None:
    source = """
        def check(recipe):
            problems = [*sizes(recipe)]
            problems.append("no disk")
            raise InputError("; ".join(problems))
        def sizes(recipe):
            yield f"size: {recipe.size} is wrong"
        def stop(self):
            raise StageError(self.why())
        def why(self):
            return "the disk is full" if self.disk else f"killed by {self.name}"
    """
    expected = {("input", "no disk"), ("input", "size: <size> is wrong")}
    assert found_in(tmp_path, source) == expected | {("stage", "the disk is full"), ("stage", "killed by <name>")}


def test_a_message_that_only_passes_on_another_one_is_left_out(tmp_path: Path) -> None:
    assert found_in(tmp_path, "def f(error):\n    raise InputError(str(error)) from error") == set()


def test_an_issue_is_found_by_its_text_and_not_by_its_subject(tmp_path: Path) -> None:
    source = """
        def issue(pod):
            why = "is gone" if pod else "was evicted"
            return Issue(f"pod {pod}", f"{why}; raise the limit", terminal=True)
    """
    assert found_in(tmp_path, source) == {
        ("issue", "is gone; raise the limit"),
        ("issue", "was evicted; raise the limit"),
    }


def test_every_refusal_of_the_chart_is_found() -> None:
    assert len(list(sentences(path.name for path in templates()))) >= 80
    shapes = [message.shape for message in chart_messages()]
    for where, _ in sentences(path.name for path in templates()):
        written = where.partition(": ")[2]
        assert any(written[:20].split("%")[0] in shape for shape in shapes), written


def test_what_helm_says_belongs_to_an_entry() -> None:
    said = refusal({"serve": {"enabled": True, "pool": "none"}})
    assert "serve.pool" in said
    entry = entry_of(Message(said, "chart"), ENTRIES)
    assert entry is not None
    assert entry.title == "Serving"
