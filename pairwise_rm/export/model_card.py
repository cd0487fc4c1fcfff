"""The model card of an exported judge: what it is, how to use it, and what was measured.

Every figure comes out of the run's own files; if an evaluation is missing, the card says so.
"""

from __future__ import annotations

from typing import Any

import jinja2
import yaml

from pairwise_rm import __version__
from pairwise_rm.evaluate.result import METRICS, figure, orders, read_json
from pairwise_rm.hf_model import is_hub_name
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.run_folder import RunFolder

_ROWS = {
    "accuracy": "accuracy, {orders}",
    "both_orders_right": "both orders right",
    "position_consistency": "position consistency",
    "share_a": "share of A verdicts",
    "invalid": "invalid output",
}

_CARD = """\
{{ front }}
# {{ recipe.name }}: a pairwise judge

{% if recipe.description %}{{ recipe.description }}

{% endif -%}
A pairwise generative reward model: it reads a query and two responses, reasons, and answers
`<preference>A</preference>`, `B` or `tie`. Trained from `{{ base }}` with GRPO ({{ step }} steps,
{{ "LoRA of rank %d, merged" % recipe.model.lora.rank if recipe.model.lora else "all weights" }}) by
pairwise-rm {{ version }} on verl and vLLM. {{ "{:,}".format(parameters) }} parameters, {{ dtype }}.

## Measured

{% if rows %}On {{ pairs }} held-out pairs ({{ orders }}), with 95 % intervals clustered by prompt:

| | before | after |
|---|---|---|
{% for row in rows %}| {{ row[0] }} | {{ row[1] }} | {{ row[2] }} |
{% endfor %}{% else %}Not evaluated yet: `pairwise-rm evaluate` measures it, and the next export carries the numbers.
{% endif %}
## Asking it

The prompt below is part of the model: it was trained with this text. `recipe.yaml` beside this card holds it too.

````text
{{ prompt }}
````

```bash
pairwise-rm judge recipe.yaml --model . --prompt "..." --response-a "..." --response-b "..."
vllm serve .   # OpenAI-compatible; send the prompt above as the user's message
```

Ask in both orders and trust a verdict that survives the swap.
"""


def model_card(recipe: Recipe, folder: RunFolder, merged: dict[str, Any]) -> str:
    """The card as Markdown with the hub's YAML front matter."""
    before, after = (read_json(folder.evaluation / label / METRICS) or {} for label in ("before", "after"))
    template = jinja2.Environment(trim_blocks=False, autoescape=False).from_string(_CARD)
    return template.render(
        front=_front_matter(recipe, after),
        recipe=recipe,
        base=recipe.model.path,
        step=merged.get("merge", {}).get("step"),
        parameters=merged.get("parameters", 0),
        dtype=recipe.export.dtype or recipe.model.dtype,
        version=__version__,
        rows=_rows(before, after),
        pairs=after.get("pairs"),
        orders=_orders(after),
        prompt=_prompt(recipe),
    )


def _front_matter(recipe: Recipe, after: dict[str, Any]) -> str:
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    front["tags"] = ["reward-model", "pairwise", "judge", "grpo", "verl"]
    if recipe.export.license:
        front["license"] = recipe.export.license
    if is_hub_name(recipe.model.path):
        front["base_model"] = recipe.model.path
    if "accuracy" in after:
        result = {
            "type": "accuracy",
            "name": f"accuracy, {_orders(after)}",
            "value": round(after["accuracy"]["value"], 4),
        }
        dataset = {"name": recipe.data.name, "type": recipe.data.name}
        task = {"type": "text-generation", "name": "pairwise preference"}
        front["model-index"] = [
            {"name": recipe.name, "results": [{"task": task, "dataset": dataset, "metrics": [result]}]}
        ]
    return "---\n" + yaml.safe_dump(front, sort_keys=False) + "---"


def _rows(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    if not after:
        return []
    return [
        (text.format(orders=_orders(after)), figure(before.get(key)), figure(after[key]))
        for key, text in _ROWS.items()
        if key in after
    ]


def _orders(after: dict[str, Any]) -> str:
    return orders(after) if "both_orders_right" in after else "both orders"


def _prompt(recipe: Recipe) -> str:
    from pairwise_rm.contract.prompt import PairwiseComparisonTemplate

    template = PairwiseComparisonTemplate(recipe.prompt.rubric, recipe.prompt.template)
    return template.format("{query}", "{response A}", "{response B}")
