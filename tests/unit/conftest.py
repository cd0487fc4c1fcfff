"""What several tests share: a real small tokenizer, the smallest recipe and rows, a Kubernetes API with a release."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings
from rich.console import Console

from pairwise_rm.contract.prompt import DEFAULT_RUBRIC, DEFAULT_TEMPLATE
from pairwise_rm.contract.rows import Pair, Row, both_orders
from pairwise_rm.progress import Begin, Waiting
from pairwise_rm.recipe.model import Recipe
from tests.unit.k8s_objects import AT, STEP, job, ray_cluster, said, submitter, worker
from tests.unit.kubernetes_stub import KubernetesStub, kubeconfig

MakeRecipe = Callable[..., Recipe]
MakeRows = Callable[..., list[Row]]
WriteRows = Callable[..., Path]

# A loaded machine is slow, which is no fault of the code under test.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")

CORPUS = (
    "What is the word for it? It is other than one and one, and I do not know why.",
    "The rows of the file are read and the model returns a list of values.",
    "def test_it(value: str) -> None: return [row for row in rows if row is not None]",
)

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level BPE with 600 tokens and Qwen's turn markers, trained in a few milliseconds."""
    pytest.importorskip("transformers")
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([DEFAULT_TEMPLATE, DEFAULT_RUBRIC, *CORPUS] * 3, trainer)
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture
def make_recipe(tmp_path: Path) -> MakeRecipe:
    """`make_recipe(train={"steps": 3})`: the smallest CPU recipe, with sections merged in."""

    def make(**sections: Any) -> Recipe:
        given: dict[str, Any] = {
            "name": "t",
            "device": "cpu",
            "output_dir": str(tmp_path / "run"),
            "model": {"path": str(tmp_path / "model"), "dtype": "float32", "attention": "sdpa"},
            "train": {"tensor_parallel": 1, "gpus_per_node": 1, "batch_size": 4, "mini_batch_size": 2},
        }
        for name, values in sections.items():
            known = given.get(name)
            given[name] = {**known, **values} if isinstance(known, dict) and isinstance(values, dict) else values
        return Recipe.model_validate(given)

    return make


@pytest.fixture
def make_rows() -> MakeRows:
    """`make_rows(3)`: both orders of that many pairs; the first response is the better one."""

    def make(count: int = 2, **changed: Any) -> list[Row]:
        rows: list[Row] = []
        for number in range(count):
            rows += both_orders(
                Pair(
                    messages=[{"role": "user", "content": f"What is {number} and one?"}],
                    responses=(f"It is {number + 1}.", f"I do not know {number}."),
                    preferred="A",
                    strength=2,
                    source="test",
                )
            )
        return [{**row, **changed} for row in rows]  # type: ignore[typeddict-item]

    return make


@pytest.fixture
def write_rows() -> WriteRows:
    """Writes rows as our parquet layout."""

    def write(path: Path, rows: list[Row]) -> Path:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        from pairwise_rm.contract.rows import arrow_schema

        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows, schema=arrow_schema()), path)
        return path

    return write


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesStub]:
    """A cluster with nothing in it, which the kubeconfig names."""
    from pairwise_rm.cli import console as console_module
    from pairwise_rm.k8s import client, logs
    from pairwise_rm.k8s import wait as k8s_wait

    monkeypatch.setattr(console_module, "console", Console(width=140, highlight=False, soft_wrap=True))
    stub = KubernetesStub()
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(stub.url)))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    for module, name in ((k8s_wait, "POLL_SECONDS"), (logs, "_PAUSE_SECONDS"), (client, "_PAUSE_SECONDS")):
        monkeypatch.setattr(module, name, 0.01)
    yield stub
    stub.close()


@pytest.fixture
def release(cluster: KubernetesStub) -> KubernetesStub:
    """Release `judge`: convert is done, train is at step 3 of 20 on 8 GPUs, export waits."""
    cluster.add("rayclusters", ray_cluster())
    cluster.add("rayjobs", job("convert", "Complete", "SUCCEEDED"), job("train"), job("export"))
    cluster.add("pods", worker(gpus=8), submitter("train"), submitter("export"))
    cluster.logs["judge-train-0a1b2c3d-s1"] = f"{AT} {said(Begin('a -> b'))}\n{AT} {said(STEP)}\n"
    cluster.logs["judge-export-0a1b2c3d-s1"] = f"{AT} {said(Waiting('train (running)', 60), 'export')}\n"
    return cluster
