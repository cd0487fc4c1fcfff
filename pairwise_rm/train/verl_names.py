"""verl's spelling of a setting, taken where people bring it: `run_pairwise.sh trainer.total_epochs=1`.

A key that the recipe has under its own name is set there, so that preflight and the run folder see it; any
other goes under `train.verl` and is checked against verl's tree.
"""

from __future__ import annotations

from collections.abc import Sequence

from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder
from pairwise_rm.train.overrides import recipe_key_for

# Values that verl spells another way than the recipe does.
_WITH_REFERENCE = ("actor_rollout_ref.actor.use_kl_loss", "true")
_SAID_OTHERWISE = {
    ("actor_rollout_ref.actor.use_kl_loss", "false"): "train.kl_loss=null",
    ("data.val_max_samples", "-1"): "train.validate_samples=null",
    ("trainer.test_freq", "-1"): "train.validate_every=null",
}


def to_recipe_overrides(verl: Sequence[str], recipe: Recipe) -> list[str]:
    """`key=value` in verl's names as `key=value` of the recipe. Raises InputError for one without `=`."""
    found = []
    folder = RunFolder.of(recipe)
    for override in verl:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise InputError(f"--verl {override!r}: expected key=value, for example trainer.total_epochs=1")
        name = key.lstrip("+")
        known = recipe_key_for(name, recipe, folder)
        if (name, value.lower()) == _WITH_REFERENCE:
            found += [] if recipe.train.kl_loss else ["train.kl_loss={}"]
        elif said := _SAID_OTHERWISE.get((name, value.lower())):
            found.append(said)
        else:
            found.append(f"{known or 'train.verl.' + name}={value}")
    return found
