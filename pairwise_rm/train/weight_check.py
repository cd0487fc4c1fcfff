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
        self.names: list[str] | None = None

    def after_sync(self, step: int) -> dict[str, float]:
        """The metric of what was compared. Raises StageError when a rank has other weights than the trainer's."""
        held: list[list[Any]] = ray.get(
            [replica.servers[0].weight_sums.remote(self.names) for replica in self.replicas]
        )
        dtypes = {name: dtype for ranks in held for rank in ranks for name, (dtype, _) in rank.items()}
        trained = added_up(self.actors.weight_sums(dtypes))
        compared = compare(step, trained, held)
        if not compared and self.names is None:
            print(
                "warning: no weight of vLLM can be compared with the trainer's by name and size; "
                "only the probabilities say whether the rollouts' weights are fresh",
                flush=True,
            )
        # From now on vLLM need not sum what only it has, such as the fused q, k and v.
        self.names = list(trained)
        return {COMPARED: float(compared)}
