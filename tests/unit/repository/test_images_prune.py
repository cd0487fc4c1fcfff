"""What is deleted from the gpu image's packages, on a small tree that has the names of the real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.paths import REPO

SCRIPT = REPO / "images" / "prune.sh"
DOCKERFILE = (REPO / "images" / "Dockerfile").read_text(encoding="utf-8")
KEPT = {
    "nvidia/cu13/lib/libcudadevrt.a",
    "nvidia/cu13/lib/libcudart_static.a",
    "nvidia/cu13/lib/libcusolver.so.12",
    "nvidia/cu13/lib/libnvrtc.so.13",
    "torch/testing/__init__.py",
}
DELETED = {
    "nvidia/cu13/lib/libcusolverMg.so.12",
    "nvidia/cu13/lib/libnvrtc.alt.so.13",
    "nvidia/cu13/lib/libnvrtc-builtins.alt.so.13.0",
    "pandas/tests/test_frame.py",
    "pandas/core/tests/deep/data.csv",
    "xgrammar/lib/libxgrammar.a",
}
BLACKWELL = {
    "flashinfer_cubin/cubins/1606/fmha/fmhaSm100fKernel_QkvBfloat16.cubin",
    "flashinfer_cubin/cubins/1606/fmha/fmhaSm103aKernel_QkvBfloat16.cubin",
    "flashinfer_cubin/cubins/a72d/deep-gemm/kernel.fp8_m_grouped_gemm.0f.cubin",
}


def prune(folder: Path, files: set[str], blackwell: str = "") -> tuple[subprocess.CompletedProcess[str], set[str]]:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    command = ["/bin/sh", str(SCRIPT), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "BLACKWELL": blackwell}, check=False
    )
    return done, {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_tests_static_archives_unused_libraries_and_blackwells_kernels_go(tmp_path: Path) -> None:
    done, left = prune(tmp_path, KEPT | DELETED | BLACKWELL)
    assert (done.returncode, done.stderr) == (0, "")
    assert left == KEPT


def test_blackwells_kernels_stay_where_they_are_asked_for(tmp_path: Path) -> None:
    _, left = prune(tmp_path, KEPT | DELETED | BLACKWELL, blackwell="1")
    assert left == KEPT | BLACKWELL


def test_a_kernel_for_another_gpu_stops_the_build_and_none_is_deleted(tmp_path: Path) -> None:
    other = "flashinfer_cubin/cubins/1606/fmha/fmhaSm90aKernel_QkvBfloat16.cubin"
    done, left = prune(tmp_path, BLACKWELL | {other})
    assert done.returncode == 1
    assert "1 kernels in flashinfer-cubin are not for Blackwell alone" in done.stderr
    assert left == BLACKWELL | {other}


@pytest.mark.parametrize("installed", ["-r torch.txt", "-r /tmp/requirements/rest.txt"])
def test_each_layer_is_pruned_where_it_is_installed(installed: str) -> None:
    [layer] = [part for part in DOCKERFILE.split("\nRUN ") if installed in part]
    assert layer.index(installed) < layer.index("sh /tmp/prune.sh /opt/venv/lib/python3.12/site-packages")
