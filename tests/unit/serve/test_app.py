"""The Serve application as it is built; that it runs is shown with a real vLLM, on a machine or a cluster."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from pairwise_rm.cluster.state_file import StateWriter
from pairwise_rm.errors import InputError, StageError
from pairwise_rm.progress import Line
from pairwise_rm.serve import app
from pairwise_rm.serve.exported import Exported, ServeArguments


def test_an_export_that_is_on_its_way_is_waited_for_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "_POLL_SECONDS", 0.01)
    folder = tmp_path / "export"

    def export() -> None:
        time.sleep(0.2)
        folder.mkdir()

    threading.Thread(target=export).start()
    app.await_export(ServeArguments.of({"model": str(folder)}))
    line = Line.parse(capsys.readouterr().out)
    assert line is not None
    assert line.human == f"▸ serve  waiting for the judge in {folder}: no such folder (0:00:00)"


def test_an_older_export_of_the_same_run_is_not_served_where_a_newer_one_is_to_come(tmp_path: Path) -> None:
    folder, path = tmp_path / "export", tmp_path / "stages" / "export.json"
    folder.mkdir()
    assert app._lacking(folder, "b") == "export has not begun"
    with StateWriter(path, "export", "a"):
        pass
    assert app._lacking(folder, "b") == "export has not begun"
    with pytest.raises(StageError), StateWriter(path, "export", "b"):
        raise StageError("disk full")
    assert app._lacking(folder, "b") == "export is failed (disk full)"
    with StateWriter(path, "export", "b"):
        assert app._lacking(folder, "b") == "export is waiting"
    assert app._lacking(folder, "b") is None


def test_a_replica_holds_the_gpus_of_its_vllm(
    tmp_path: Path, make_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.serve")
    exported = Exported(tmp_path, make_recipe(), 2, {})
    monkeypatch.setattr(Exported, "of", lambda arguments: exported)
    deployment = app.build({"model": str(tmp_path)})._bound_deployment
    assert deployment.name == "judge"
    assert deployment.ray_actor_options["num_gpus"] == 2


def test_a_folder_that_is_no_judge_is_refused_when_the_application_is_built(tmp_path: Path) -> None:
    pytest.importorskip("ray.serve")
    with pytest.raises(InputError, match=r"no config\.json"):
        app.build({"model": str(tmp_path)})
