"""What a check found, and how the problems of a layer become one error."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pairwise_rm.errors import InputError
from pairwise_rm.recipe.load import Origin


@dataclass(frozen=True)
class Problem:
    """One line for the user.

    Args:
        text: begins with the key that is to blame, as a full dotted path.
        keys: where to look for its line in the file, if not at that key; the first one that is given counts.
        placed: whether the line begins with the place of its key; not for verl's keys, which may come from `--verl`.
        absent: what is to be checked is not on this machine, which says nothing about the machine that will need it.
    """

    text: str
    keys: tuple[str, ...] = ()
    absent: bool = False
    placed: bool = True

    def of_data_config(self) -> Problem:
        """The same in a data config, whose keys begin with `dataset.`"""
        keys = tuple(_in_data_config(key) for key in self.keys)
        return dataclasses.replace(self, text=_in_data_config(self.text), keys=keys)

    def line(self, origin: Origin | None = None) -> str:
        """The text, with the file and the line of its key."""
        if origin is None or not self.placed:
            return self.text
        return f"{origin.place(*(self.keys or (self.text.partition(':')[0],)))}: {self.text}"


def _in_data_config(text: str) -> str:
    return re.sub(r"\bdata\.(configs|export)\b", r"dataset.\1", text)


def refuse(problems: Iterable[Problem], origin: Origin | None = None) -> None:
    """Raises InputError with a line for each problem; does nothing where there is none."""
    if lines := [problem.line(origin) for problem in problems]:
        raise InputError("\n".join(lines))
