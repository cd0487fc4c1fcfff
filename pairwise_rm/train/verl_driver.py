"""The process that runs verl: `python -m pairwise_rm.train.verl_driver LAUNCH.json`.

A process of its own, so that the launcher can watch it, end it, and write its hundred lines per second to train.log.
LAUNCH.json holds `settings`, verl's keys with their values.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(launch_file: str) -> None:
    from verl.trainer.main_ppo import run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    from pairwise_rm.train.verl_schema import load_tree, merged
    from pairwise_rm.train.verl_settings import Setting
    from pairwise_rm.train.verl_trainer import task_runner

    settings = json.loads(Path(launch_file).read_text())["settings"]
    config = merged(load_tree(), [Setting(key, value) for key, value in settings.items()])
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    run_ppo(config, task_runner_class=task_runner())


if __name__ == "__main__":
    main(sys.argv[1])
