"""What runs inside verl: its task runner and its trainer, with our metrics and two reasons to stop.

verl offers a task runner class, a trainer registry, a registry of vLLM replicas, classes of workers and a checkpoint
callback for this; nothing of verl is patched on a GPU. A run stops when the rollout's weights are not the trainer's and
when a rollout was lost twice: verl only logs an exception from a reward and fills the hole with padding.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray
import transfer_queue as tq
from omegaconf import OmegaConf, open_dict
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import PPOTrainerSync
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
from verl.utils.debug import marked_timer

from pairwise_rm.atomic_io import write_json
from pairwise_rm.errors import StageError
from pairwise_rm.train import checkpoints, vllm_server, wandb_run
from pairwise_rm.train.actor_worker import JudgeActorWorker
from pairwise_rm.train.lost_rollouts import JudgeAgentLoopManager, LostRollouts, errors_of
from pairwise_rm.train.metrics_file import OF_CHECKPOINT, append_step, numbers, read_steps, with_tutorial_names
from pairwise_rm.train.phases import PHASE_FILE, ReportsPhases
from pairwise_rm.train.preemptible_trainer import PreemptibleTrainer
from pairwise_rm.train.preflight import trained_weights
from pairwise_rm.train.read_back import ReadBack
from pairwise_rm.train.stale_weights import check_fresh
from pairwise_rm.train.verl_settings import TASK_KEY
from pairwise_rm.train.weight_check import WeightCheck


class JudgeTrainer(ReportsPhases, PPOTrainerSync):
    """verl's synchronous trainer, which also measures verdicts and refuses stale or lost rollouts."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._lost = LostRollouts(
            config.actor_rollout_ref.rollout.n,
            super()._submit_batch_to_rollout,
            lambda: errors_of(self.agent_loop_manager),
            self._count_prompts,
        )
        self._pending_sync_metrics: dict[str, float] = {}

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role in (Role.ActorRolloutRef, Role.ActorRollout):
            if role in self.role_worker_mapping:
                self.role_worker_mapping[role] = ray.remote(JudgeActorWorker)

    def on_init_end(self) -> None:
        super().on_init_end()
        self._check_weights()

    def on_step_end(self) -> None:
        super().on_step_end()
        with marked_timer("compare_weights", self.timing_raw):
            self._check_weights()

    def _check_weights(self) -> None:
        if self.config[TASK_KEY].compare_weights:
            check = WeightCheck(self.actor_rollout_wg, self.checkpoint_manager.replicas)
            self._pending_sync_metrics |= check.after_sync(self.global_steps)

    def prepare_step(self) -> Any:
        self._lost.begin_step()
        return super().prepare_step()

    def _submit_batch_to_rollout(self, batch: Any) -> int:
        self._lost.submitted(batch)
        return int(super()._submit_batch_to_rollout(batch))

    def on_sample_begin(self) -> None:
        super().on_sample_begin()
        # verl's sampler evicts and refills groups meanwhile where it filters them.
        if not (self.config.algorithm.get("filter_groups") or {}).get("enable", False):
            self._pending_sync_metrics |= self._lost.wait(self.global_steps)

    def _phase_file(self) -> Path:
        return Path(self.config[TASK_KEY].metrics_file).with_name(PHASE_FILE)

    def fit(self, agent_loop_manager: Any) -> Any:
        if "wandb" in self.config.trainer.logger:
            wandb_run.begin(
                OmegaConf.to_container(self.config, resolve=True), Path(self.config[TASK_KEY].metrics_file).parent
            )
        return super().fit(agent_loop_manager)

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        self._refuse_padding_for_rollouts(batch)
        batch = super()._compute_old_log_prob(batch, metrics=metrics)
        check_fresh(metrics, self.config[TASK_KEY], self.global_steps)
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
        lines = read_steps(Path(self.config[TASK_KEY].metrics_file))
        if lines and lines[-1]["step"] == self.global_steps:
            # A step that is saved while the next one runs; its rollouts are gone.
            return {name: value for name, value in lines[-1].items() if name != "step"}
        batch, metrics = self._trained_on
        found = {"time": time.time(), **metrics, **self._verdicts(batch)}
        if "rollout/score" in found:
            found["critic/score/mean"] = found["rollout/score"]
        return numbers({**found, **with_tutorial_names(found)})

    def _refuse_padding_for_rollouts(self, batch: Any) -> None:
        found = len(_without_padding(batch))
        expected = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n
        if found < expected:
            raise StageError(
                f"step {self.global_steps}: {expected - found} of {expected} rollouts failed; "
                "the error of the reward or of vLLM stands above in train.log"
            )

    def _verdicts(self, batch: Any) -> dict[str, float]:
        """Means of what the reward returns, over this step's rollouts."""
        keys = _without_padding(batch)
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
        infos = [fields["reward_extra_info"] for fields in data.pop("extra_fields").tolist()]
        numbers = [name for name, value in infos[0].items() if not isinstance(value, str)]
        return {f"rollout/{name}": sum(info[name] for info in infos) / len(infos) for name in numbers}


def _without_padding(batch: Any) -> list[str]:
    return [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]


class PreemptibleJudgeTrainer(PreemptibleTrainer, JudgeTrainer):
    """JudgeTrainer that saves and ends when one of its nodes is about to go."""


class JudgeTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """verl's task runner, with our trainer as its synchronous one."""

    def run(self, config: Any) -> None:
        TRAINER_REGISTRY["sync"] = PreemptibleJudgeTrainer
        vllm_server.register()
        super().run(config)

    def init_agent_loop_manager(self) -> None:
        agent = self.config.actor_rollout_ref.rollout.agent
        if not agent.get("agent_loop_manager_class"):
            with open_dict(agent):
                agent.agent_loop_manager_class = f"{JudgeAgentLoopManager.__module__}.{JudgeAgentLoopManager.__name__}"
        super().init_agent_loop_manager()


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
