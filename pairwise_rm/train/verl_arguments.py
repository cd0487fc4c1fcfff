"""A recipe as verl's arguments: our settings and the user's keys, held to what verl knows."""

from __future__ import annotations

from pairwise_rm.contract.verdict import Thinking
from pairwise_rm.hf_model import is_hub_name, model_location, model_snapshot
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train.reward_function import checksum
from pairwise_rm.train.verl_settings import Setting, as_overrides, reward_location, settings, user_settings


def resolve(
    recipe: Recipe, folder: RunFolder, thinking: Thinking = "response", steps: int | None = None
) -> list[Setting]:
    """All of verl's keys for this recipe, the user's included. `thinking` and `steps` are what preflight found out.

    Raises InputError for a key that is refused.
    """
    owned = settings(recipe, folder, thinking)
    given = user_settings(recipe, owned)
    if steps is not None:
        # verl stops at the end of the last epoch without a checkpoint, so the number of steps is what the data has.
        known = {"trainer.total_training_steps": steps, "actor_rollout_ref.model.path": pinned(recipe)}
        if function := reward_function(recipe):
            options = {"thinking": thinking, "function": function}
            known["reward.custom_reward_function.reward_kwargs"] = options
        owned = [setting._replace(value=known.get(setting.key, setting.value)) for setting in owned]
    return [*owned, *given]


def reward_function(recipe: Recipe) -> dict[str, str] | None:
    """The recipe's own reward with the checksum of its source."""
    function = recipe.reward.function
    if function is None:
        return None
    path = reward_location(function)
    return {"path": path, "name": function.name, "sha256": checksum(path)}


def pinned(recipe: Recipe) -> str:
    """The model for verl, which knows no revision: the snapshot of a pinned hub model, else the path as it is."""
    model = recipe.model
    if model.revision and is_hub_name(model.path):
        return str(model_snapshot(model.path, model.revision))
    return model_location(model.path)


def resolve_keys(recipe: Recipe) -> None:
    """Raises InputError for a key under `train.verl` that is refused or, where verl is installed, unknown to it."""
    given = user_settings(recipe, settings(recipe, RunFolder.of(recipe), "response"))
    if not given:
        return
    # Not the launcher's own keys: one is a field of a dataclass of verl's, and asking for those imports torch.
    try:
        from pairwise_rm.train.verl_schema import check_keys, load_tree

        tree = load_tree()
    except ImportError:
        return
    check_keys(given, tree)


def dry_run(recipe: Recipe) -> tuple[list[str], bool]:
    """The full list of verl overrides, and whether verl is installed, which checks them.

    Raises InputError for a key that verl does not know.
    """
    folder = RunFolder.of(recipe)
    found = resolve(recipe, folder)
    try:
        from pairwise_rm.train.verl_schema import check_keys, load_tree

        tree = load_tree()
    except ImportError:
        return as_overrides(found), False
    from omegaconf import OmegaConf

    check_keys(found, tree)
    return as_overrides(found, OmegaConf.to_container(tree, resolve=False)), True
