"""The split: whether a pair is for training or held out.

Official: the source says so, in a row or by the file that holds it. Test: all are held out. By ratio: a seeded hash of
the normalised prompt decides, so a prompt is never on both sides, the order and the number of the rows do not matter,
and nothing has to be remembered. The ratio is therefore met on average over prompts, not to the row: of 400 prompts at
0.8, 320 ± 8 are on the train side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pairwise_rm.contract.prompt_identity import normalised_prompt
from pairwise_rm.contract.rows import TEST_FILE, TRAIN_FILE, Message
from pairwise_rm.convert.converters import SIDES, Side
from pairwise_rm.convert.fields import RowError
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import OutputConfig

_SCALE = float(1 << 64)


class Splitter:
    """`side(messages, official)` of a pair; `official` is what the source says, or None.

    `sides`: those on which pairs are wanted; the other one's file has no rows.
    """

    def __init__(self, config: OutputConfig) -> None:
        self._all_test = config.split == "test"
        self._ratio = config.split_ratio
        self._key = str(config.split_seed).encode()
        self._bound = self._ratio.train * _SCALE if self._ratio else 0.0
        self._seed = config.split_seed
        self.sides = SIDES
        if self._all_test:
            self.sides = ("test",)
        elif self._ratio and self._ratio.train == 1:
            self.sides = ("train",)

    def side(self, messages: Sequence[Message], official: Side | RowError | None) -> Side:
        """The pair's side. Raises RowError if the official split is wanted and the row names none."""
        if self._all_test:
            return "test"
        if self._ratio is None:
            if official is None:
                message = "split: missing, which `split: official` needs; or set test_path, or split_ratio"
                raise RowError("missing_field", message)
            if isinstance(official, RowError):
                raise official
            return official
        digest = hashlib.blake2b(normalised_prompt(messages), digest_size=8, key=self._key).digest()
        return "train" if int.from_bytes(digest, "big") < self._bound else "test"

    def empty(self, side: Side, kept: int) -> InputError:
        """Why a side without any pair is an error, and what to do about it."""
        name = TRAIN_FILE if side == "train" else TEST_FILE
        if self._ratio is None:
            other = "`split: test` holds all rows out" if side == "train" else "use split_ratio instead"
            return InputError(
                f"data.export.split: official leaves {name} empty: none of the {kept} kept pairs is of the source's "
                f"{side} split; {other}"
            )
        return InputError(
            f"data.export.split_ratio: leaves {name} empty: the prompts of all {kept} kept pairs fall on the other "
            f"side with split_seed {self._seed}; give more prompts, another ratio or another seed"
        )
