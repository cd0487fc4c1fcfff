"""The command line, called in this process."""

from __future__ import annotations

import pytest

from pairwise_rm.cli import app


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as done:
        app.main(list(arguments))
    output = capsys.readouterr()
    assert done.value.code is None or isinstance(done.value.code, int)
    return done.value.code or 0, output.out, output.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line of an error."""
    code, _, err = call(capsys, *arguments)
    assert err.count("\n") == 1, err
    return code, err.removeprefix("error: ").rstrip("\n")
