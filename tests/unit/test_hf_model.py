"""What is refused as a model before anything heavy starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pairwise_rm.errors import InputError
from pairwise_rm.hf_model import check_base_model, check_model_folder, fingerprint, is_hub_name
from pairwise_rm.recipe.model import ModelConfig
from tests.model_files import safetensors


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The smallest folder that passes."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "model.safetensors").write_bytes(safetensors(2))
    return folder


def test_a_complete_folder_passes(model: Path) -> None:
    check_model_folder(str(model))


def test_a_chat_template_may_stand_in_the_tokenizer_config(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    (model / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    check_model_folder(str(model))


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("config.json"), "no config.json"),
        (write("config.json", "{"), "not readable JSON"),
        (write("config.json", "[]"), "expected a JSON object"),
        (remove("tokenizer.json"), "no tokenizer"),
        (remove("chat_template.jinja"), "no chat template"),
        (remove("model.safetensors"), "no weights"),
        (write("model.safetensors", safetensors(2, data=bytes(7))), "cut short"),
        (write("model.safetensors", b"\0" * 4), "cut short"),
        (write("model.safetensors", (3).to_bytes(8, "little") + b"{x}"), "header is damaged"),
        (write("pytorch_model.bin", b""), "empty file"),
        (write("model.safetensors.index.json", '{"weight_map": {"w": "model-1.safetensors"}}'), "lacks 1 of 1 weight"),
        (write("model.safetensors.index.json", '{"weight_map": {}}'), "empty"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_refused_in_one_line(
    model: Path, change: Callable[[Path], object], message: str
) -> None:
    change(model)
    with pytest.raises(InputError, match=message) as caught:
        check_model_folder(str(model))
    assert str(model) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        check_model_folder(str(tmp_path / "nowhere"))


def test_a_lora_adapter_is_told_from_a_model(model: Path) -> None:
    (model / "config.json").rename(model / "adapter_config.json")
    with pytest.raises(InputError, match="LoRA adapter"):
        check_model_folder(str(model))


@pytest.mark.parametrize(
    ("path", "hub"),
    [
        ("Qwen/Qwen3-8B", True),
        ("gpt2", False),
        ("./a", False),
        ("/a/b", False),
        ("a/b/c", False),
        ("~/a", False),
        ("a/", False),
    ],
)
def test_a_hub_name_is_owner_and_name(path: str, hub: bool) -> None:
    assert is_hub_name(path) is hub


def test_a_hub_model_that_is_not_cached_is_refused_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="nobody/nothing: no such local folder, and not in the hub cache"):
        check_model_folder("nobody/nothing")


def test_the_fingerprint_changes_with_the_weights_and_not_with_the_model_card(model: Path) -> None:
    first = fingerprint(str(model))
    (model / "README.md").write_text("# card")
    assert fingerprint(str(model)) == first
    (model / "model.safetensors").write_bytes(safetensors(2, data=b"\1" * 8))
    assert fingerprint(str(model)) != first


def test_a_hub_out_of_reach_is_one_line_at_once(tmp_path: Path) -> None:
    # A process of its own: huggingface_hub reads its environment when it is imported.
    code = "from pairwise_rm.hf_model import check_model_folder; check_model_folder('nobody/nothing')"
    plain = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**plain, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.splitlines()[-1].startswith(
        "pairwise_rm.hf_model.HubOutOfReach: nobody/nothing: no such local folder"
    )
    assert "Retrying" not in done.stderr


def test_a_model_that_its_recipe_can_make_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    missing = ModelConfig(path=str(tmp_path / "smoke"), make="smoke")
    with pytest.raises(InputError, match=r"no such model folder; `pairwise-rm models smoke --out .*/smoke` makes it"):
        check_base_model(missing)
