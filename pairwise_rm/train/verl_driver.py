"""The process that runs verl: `python -m pairwise_rm.train.verl_driver LAUNCH.json`.

A process of its own, so that the supervisor can watch it, end it, and write its hundred lines per second to train.log.
It ends when the supervisor does, however that ended: the next one would train in the same folder beside it.
LAUNCH.json holds `settings`, verl's keys with their values.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

_LOOK_SECONDS = 1.0
_END_SECONDS = 15.0


def main(launch_file: str) -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    from verl.trainer.main_ppo import run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    from pairwise_rm.ray_session import with_slow_starts
    from pairwise_rm.train.verl_schema import load_tree, merged
    from pairwise_rm.train.verl_settings import Setting
    from pairwise_rm.train.verl_trainer import task_runner

    settings = json.loads(Path(launch_file).read_text())["settings"]
    config = merged(load_tree(), [Setting(key, value) for key, value in settings.items()])
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    with_slow_starts(lambda: run_ppo(config, task_runner_class=task_runner()))


def _end_with(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(_LOOK_SECONDS)
    print("the supervisor has ended: so does its driver", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_SECONDS)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
