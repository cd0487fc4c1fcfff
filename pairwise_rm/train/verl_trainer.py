"""What runs inside verl: its task runner and its trainer, with our metrics and two reasons to stop.

verl offers a task runner class, a trainer registry and a checkpoint callback for this; nothing of verl is
patched on a GPU. A run stops when the rollout's weights are stale and when a rollout was lost: verl only logs
an exception from a reward and fills the hole with padding.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray
import transfer_queue as tq
from omegaconf import OmegaConf
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.trainer.ppo.v1 import PPOTrainerSync
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

from pairwise_rm.atomic_io import write_json
from pairwise_rm.errors import StageError
from pairwise_rm.train import checkpoints, wandb_run
from pairwise_rm.train.metrics_file import OF_CHECKPOINT, append_step, numbers, with_tutorial_names
from pairwise_rm.train.preflight import trained_weights
from pairwise_rm.train.read_back import ReadBack
from pairwise_rm.train.stale_weights import check_fresh
from pairwise_rm.train.verl_settings import TASK_KEY


class JudgeTrainer(PPOTrainerSync):
    """verl's synchronous trainer, which also measures verdicts and refuses stale or lost rollouts."""

    def fit(self, agent_loop_manager: Any) -> Any:
        if "wandb" in self.config.trainer.logger:
            wandb_run.begin(
                OmegaConf.to_container(self.config, resolve=True), Path(self.config[TASK_KEY].metrics_file).parent
            )
        return super().fit(agent_loop_manager)

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        batch = super()._compute_old_log_prob(batch, metrics=metrics)
        check_fresh(metrics, self.config[TASK_KEY].max_probs_diff, self.global_steps)
        return batch

    def step(self, metrics: dict[str, Any], timing_raw: Any) -> Any:
        batch = super().step(metrics, timing_raw)
        self._trained_on = batch, metrics
        return batch

    def _compute_metrics(
        self, batch: Any, metrics: dict[str, Any], timing_raw: Any, global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps=global_steps, epoch=epoch)
        metrics.update(self._verdicts(batch))
        metrics.update(with_tutorial_names(metrics))
        append_step(Path(self.config[TASK_KEY].metrics_file), global_steps, metrics)
        if global_steps >= self.total_training_steps:
            self.checkpoint_callback.read_back.wait(last=True)

    def _save_checkpoint(self) -> None:
        self.checkpoint_callback.read_back.wait()
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
        weights = trained_weights(
            self.config.actor_rollout_ref.model.path, self.config.actor_rollout_ref.model.lora_rank
        )
        with checkpoints.room_for(folder, checkpoints.expected_bytes(folder.parent, weights)):
            write_json(folder / OF_CHECKPOINT, self._metrics_so_far())
            super()._save_checkpoint()

    def _metrics_so_far(self) -> dict[str, float]:
        """verl syncs weights and validates before it hands over the metrics of a step, and a run may end there."""
        batch, metrics = self._trained_on
        found = {"time": time.time(), **metrics, **self._verdicts(batch)}
        if "rollout/score" in found:
            found["critic/score/mean"] = found["rollout/score"]
        return numbers({**found, **with_tutorial_names(found)})

    def _verdicts(self, batch: Any) -> dict[str, float]:
        """Means of what the reward returns, over this step's rollouts."""
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        expected = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n
        if len(keys) < expected:
            raise StageError(
                f"step {self.global_steps}: {expected - len(keys)} of {expected} rollouts failed; "
                "the error of the reward or of vLLM stands above in train.log"
            )
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
        infos = [fields["reward_extra_info"] for fields in data.pop("extra_fields").tolist()]
        numbers = [name for name, value in infos[0].items() if not isinstance(value, str)]
        return {f"rollout/{name}": sum(info[name] for info in infos) / len(infos) for name in numbers}


class JudgeTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """verl's task runner, with JudgeTrainer as its synchronous trainer."""

    def run(self, config: Any) -> None:
        TRAINER_REGISTRY["sync"] = JudgeTrainer
        super().run(config)


def task_runner() -> Any:
    """The Ray actor class that verl's `run_ppo` starts."""
    return ray.remote(num_cpus=1)(JudgeTaskRunner)


class LatestCheckpoint(CheckpointCallback):
    """Called on the driver after each save, once all ranks have written: the checkpoint is sealed and read back."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.read_back = ReadBack(self.config[TASK_KEY].keep_checkpoints)

    def on_save(self, trainer: Any, global_step: int, checkpoint_dir: str, async_save: bool = False, **_: Any) -> None:
        self.read_back.begin(Path(checkpoint_dir))
