"""What the one short training must show: it learns, it resumes exactly, and what it leaves can be used."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch

from pairwise_rm.train.attempts import read_attempts
from pairwise_rm.train.checkpoints import sealed
from tests.train.conftest import DAMAGED, SECRETS, STEPS, WEIGHTS, Run


def test_an_interrupted_run_exits_as_interrupted_and_leaves_no_process_behind(run: Run) -> None:
    assert run.first_attempt["code"] == 130
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(run.root / "train" / "launch.json") not in listing


def test_a_training_whose_worker_was_killed_says_why_and_goes_on_by_itself(run: Run) -> None:
    (retry,) = [line for line in run.said.splitlines() if line.startswith("  attempt ")]
    assert re.match(r"  attempt 3 in 5 s, after step [68]: WorkerDict \(pid \d+ on [\d.]+\) died: its process ", retry)
    first, second, third = read_attempts(run.root / "train" / "attempts.jsonl")
    assert (first.outcome, first.after, first.checkpoint) == ("stopped", 0, DAMAGED)
    assert (second.outcome, second.after, second.retried) == ("failed", 2, True)
    assert (third.outcome, third.after, third.reached) == ("done", second.checkpoint, STEPS)


def test_a_checkpoint_with_a_flipped_byte_is_set_aside_and_training_goes_on_from_the_one_before_it(run: Run) -> None:
    (warning,) = [line for line in run.said.splitlines() if "warning: " in line]
    assert f"damaged: {WEIGHTS} is not what was written" in warning
    assert f"set aside as global_step_{DAMAGED}.damaged, the one before it is used" in warning
    assert f"resumed after step {DAMAGED - 2}" in run.said
    assert (run.root / "train" / "checkpoints" / f"global_step_{DAMAGED}.damaged" / WEIGHTS).is_file()


def test_the_metrics_hold_each_step_once_although_the_run_was_interrupted(run: Run) -> None:
    assert [line["step"] for line in run.metrics] == list(range(1, STEPS + 1))


def test_resuming_goes_on_with_the_prompts_that_come_next(run: Run) -> None:
    # Step 3 was done before the interruption, after the last checkpoint that is whole, and is done again.
    assert run.prompts_of_step(3) == run.first_attempt["prompts"]
    assert run.prompts_of_step(4) != run.prompts_of_step(3)


def test_resuming_goes_on_with_the_optimizer(run: Run) -> None:
    state = torch.load(
        run.root / "train" / "latest" / "actor" / "optim_world_size_1_rank_0.pt", map_location="cpu", weights_only=False
    )
    updates = {int(moments["step"]) for moments in state["state"].values()}
    assert updates == {STEPS * 32 // 16}, "two optimizer updates a step, counted over both attempts"


def test_the_reward_of_the_last_steps_is_above_chance_and_above_the_first(run: Run) -> None:
    rewards = [line["reward/mean"] for line in run.metrics]
    first, last = sum(rewards[:3]) / 3, sum(rewards[-3:]) / 3
    assert last > 0.55
    assert last > first + 0.03


def test_the_format_is_whole_at_the_end_and_never_rots(run: Run) -> None:
    # Invalid output is unpaid, so a dip of a step or two while the verdict is found mends itself: of the last three at
    # most one may dip, and not far.
    valid = [line["rollout/valid"] for line in run.metrics]
    lowest, middle, _ = sorted(valid[-3:])
    assert lowest > 0.8
    assert middle > 0.95
    assert sum(valid) / len(valid) > 0.85


def test_the_metrics_carry_the_names_of_the_rm_gallery_tutorial_beside_verls(run: Run) -> None:
    for line in run.metrics:
        assert line["reward/mean"] == line["critic/score/mean"]
        assert 0 <= line["accuracy"] <= 1
        assert line["kl_loss"] == line["actor/kl_loss"]


def test_the_rollouts_come_from_the_weights_that_are_trained(run: Run) -> None:
    assert max(line["training/rollout_probs_diff_max"] for line in run.metrics) < 0.01


def test_the_newest_checkpoint_is_linked_and_older_ones_are_pruned(run: Run) -> None:
    train = run.root / "train"
    assert (train / "latest").resolve() == (train / "checkpoints" / f"global_step_{STEPS}").resolve()
    assert (train / "actor_latest").resolve() == (train / "latest" / "actor").resolve()
    kept = sorted(path.name for path in (train / "checkpoints").glob("global_step_*"))
    assert kept == [f"global_step_{STEPS - 2}", f"global_step_{STEPS}", f"global_step_{DAMAGED}.damaged"]


def test_a_finished_run_has_nothing_to_do(run: Run) -> None:
    assert "nothing to do" in run.run("train", "smoke").stdout


def test_wandb_offline_holds_the_metrics_of_the_rm_gallery_tutorial(run: Run) -> None:
    found = sorted((run.root / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(found) == 3, "one W&B run an attempt"
    content = b"".join(path.read_bytes() for path in found)
    for name in (b"reward/mean", b"accuracy", b"kl_loss"):
        assert name in content


def test_nothing_that_the_run_has_written_holds_a_secret_of_its_environment(run: Run) -> None:
    # Launch file, logs, verl's config, metrics, W&B's offline run with its config, checkpoints, export.
    files = [path for path in run.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"launch.json", "train.log", "first.log"} < {path.name for path in files}
    assert any(path.suffix == ".wandb" for path in files)
    assert [path for path in files if any(value.encode() in path.read_bytes() for value in SECRETS.values())] == []


def test_the_export_loads_with_transformers_and_speaks_the_format(run: Run) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pairwise_rm.contract.prompt import PairwiseComparisonTemplate
    from pairwise_rm.contract.rows import read_rows
    from pairwise_rm.contract.verdict import extract_preference_from_response
    from pairwise_rm.recipe.load import load_recipe

    run.run("export", "smoke")
    folder = run.root / "export"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    template = PairwiseComparisonTemplate(template=load_recipe("smoke").prompt.template)
    row = read_rows([run.root / "data" / "preference_test.parquet"]).rows[0]
    ids = tokenizer.apply_chat_template(
        template.messages(row), add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    answer = model.generate(ids, max_new_tokens=32, do_sample=False)[0, ids.shape[1] :]
    verdict = extract_preference_from_response(tokenizer.decode(answer, skip_special_tokens=True))
    assert verdict.valid, verdict


def test_the_exported_judge_answers_on_the_command_line_in_both_orders(run: Run) -> None:
    pair = ["--response-a", "The castle is very old today.", "--response-b", "I once saw a violin that was golden."]
    done = run.run("judge", "smoke", "--prompt", "Write one sentence about the castle.", *pair, "--json")
    judgement = json.loads(done.stdout)
    assert judgement["combined"] in ("A", "B", "inconsistent")
    assert [order["order"] for order in judgement["orders"]] == ["original", "swapped"]
    assert all("castle" in order["reasoning"][0] for order in judgement["orders"])


def test_the_export_holds_the_weights_of_the_checkpoint(run: Run) -> None:
    from safetensors.torch import load_file

    state = torch.load(
        run.root / "train" / "latest" / "actor" / "model_world_size_1_rank_0.pt", map_location="cpu", weights_only=False
    )
    exported = load_file(run.root / "export" / "model.safetensors")
    assert set(exported) == set(state)
    for name, tensor in exported.items():
        whole = state[name]
        assert torch.equal(tensor, getattr(whole, "_local_tensor", whole)), name


def test_each_checkpoint_is_sealed_with_checksums(run: Run) -> None:
    found = sealed(run.root / "train" / "checkpoints")
    assert len(found) == 2
    for path in found:
        record = json.loads((path / "checkpoint.json").read_text())
        assert set(record["crc32"]) == set(record["files"])
        assert "actor/optim_world_size_1_rank_0.pt" in record["files"]


def test_a_checkpoint_knows_the_metrics_of_its_step(run: Run) -> None:
    found = sealed(run.root / "train" / "checkpoints")
    assert len(found) == 2
    for path in found:
        known = json.loads((path / "metrics.json").read_text())
        (line,) = [line for line in run.metrics if line["step"] == int(path.name.rpartition("_")[2])]
        assert {"reward/mean", "accuracy", "kl_loss", "rollout/valid"} <= set(known)
        assert {name: known[name] for name in known if name != "time"} == pytest.approx(
            {name: line[name] for name in known if name != "time"}
        )


def test_the_run_folder_can_be_run_again(run: Run) -> None:
    from pairwise_rm.recipe.load import load_recipe

    saved = load_recipe(str(run.root / "train" / "recipe.yaml"))
    assert saved == load_recipe("smoke", run.options)
    assert json.loads((run.root / "train" / "versions.json").read_text())["verl"]
    assert Path(run.root / "train" / "overrides.txt").read_text().count("\n") > 50
