"""After each weight sync: the weights of every vLLM rank are the trainer's, by exact sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray

from pairwise_rm.train.weight_sums import COMPARED, added_up, compare


class WeightCheck:
    """Asks the ranks of `replicas` and then, for the parameters that they name, those of `actors`."""

    def __init__(self, actors: Any, replicas: Sequence[Any]) -> None:
        self.actors, self.replicas = actors, replicas
        self.said = False

    def after_sync(self, step: int) -> dict[str, float]:
        """The metric of what was compared. Raises StageError when a rank has other weights than the trainer's."""
        asked = [replica.servers[0].weight_sums.remote() for replica in self.replicas]
        held: list[list[Any]] = ray.get(asked)
        dtypes = {name: dtype for ranks in held for rank in ranks for name, (dtype, _) in rank.items()}
        compared = compare(step, added_up(self.actors.weight_sums(dtypes)), held)
        if not compared and not self.said:
            self.said = True
            print(
                "warning: no weight of vLLM can be compared with the trainer's by name and size; "
                "only the probabilities say whether the rollouts' weights are fresh",
                flush=True,
            )
        return {COMPARED: float(compared)}
