"""Judgements for people (rich) and for programs (JSON lines)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pairwise_rm.judge.run import Judgement, OrderJudgement

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_COMBINED = {
    "A": ("response A is better", "bold green"),
    "B": ("response B is better", "bold green"),
    "tie": ("neither response is better", "bold cyan"),
    "inconsistent": ("inconsistent: the verdict depends on the order of the responses", "bold yellow"),
    "invalid": ("invalid: no verdict could be read in at least one order", "bold red"),
}
# A model's output must not control the terminal, nor the direction in which it is read.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_TITLES = {"original": "A shown first", "swapped": "B shown first"}


def print_judgements(judgements: Iterable[Judgement], console: Console) -> None:
    """Both orders with their reasoning, then the combined verdict of each item."""
    from rich.panel import Panel
    from rich.text import Text

    for judgement in judgements:
        console.rule(Text(f"item {judgement.name}"), align="left")
        for order in judgement.orders:
            console.print(Panel(_body(order), title=Text(_title(order)), title_align="left", border_style="dim"))
        sentence, style = _COMBINED[judgement.combined]
        console.print(Text(sentence, style=style))


def as_json_lines(judgements: Iterable[Judgement]) -> str:
    """One JSON object per item: name, combined, and both orders."""
    return "".join(json.dumps(judgement.as_dict(), ensure_ascii=False) + "\n" for judgement in judgements)


def _title(order: OrderJudgement) -> str:
    return f"{_TITLES[order.order]} → {order.preferred or f'invalid ({order.reason})'}"


def _body(order: OrderJudgement) -> Text:
    from rich.text import Text

    if not order.texts:
        return Text("The prompt is too long for the model.", style="italic")
    valid = order.shown is not None
    parts = order.reasoning if valid else order.texts
    body = Text("\n\n".join(_CONTROL.sub("\ufffd", part.strip()) or "(no reasoning)" for part in parts))
    if order.order == "swapped" and valid:
        # Here the judge saw the responses swapped, so its letters are swapped too.
        body.append("\n\nIn this reasoning A is your response B, and B is your response A.", style="dim italic")
    if order.cut:
        body.append("\nThe pair was cut to fit the prompt; the cuts are marked […].", style="dim italic")
    return body
