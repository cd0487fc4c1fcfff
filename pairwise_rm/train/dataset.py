"""The dataset that verl's workers load: preference rows in, judge prompts with their label out.

verl imports this module by its path (`data.custom_cls`); the recipe's prompt section reaches it under
`data.pairwise`. A row is read, rendered and length-checked once, at start; the prompt text itself is built
when a row is asked for. No row is dropped silently: `dataset.dropped` counts them by reason, and an empty dataset is an
error that names the reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

from pairwise_rm.contract.escaping import control_tokens
from pairwise_rm.contract.prompt import BaseHelpfulnessPairWiseReward, PairwiseComparisonTemplate
from pairwise_rm.contract.prompt_fit import TOO_LONG, PromptFitter
from pairwise_rm.contract.rows import Message, Preference, Row, normalize_row, read_rows
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import PromptConfig


class HelpfulnessPairwiseTrainDataset(RLHFDataset):
    """A verl dataset over `preference_*.parquet`, ours or RM-Gallery's seven columns.

    Args are verl's: `data_files`, `tokenizer`, `config` (its `max_prompt_length`, `seed`, `shuffle`,
    `apply_chat_template_kwargs` and `pairwise` are read), `processor`, `max_samples`.

    Raises InputError when no row is left, with the number of rows dropped for each reason.
    """

    data_files: list[str]
    dropped: Counter[str]
    cut: set[int]
    """Indices of the rows that were cut to fit."""

    def _download(self, use_origin_parquet: bool = False) -> None:
        files = self.original_data_files if use_origin_parquet else self.data_files
        self.data_files = [str(Path(str(path)).expanduser()) for path in files]

    def _read_files_and_tokenize(self) -> None:
        prompt = self._prompt_config()
        read = read_rows([Path(path) for path in self.data_files])
        self.dropped, self.cut = read.unreadable, set()
        self.template = PairwiseComparisonTemplate(prompt.rubric, prompt.template, control_tokens(self.tokenizer))
        self.judge = BaseHelpfulnessPairWiseReward(self.template, prompt.system)
        rows = self._sample(read.rows)
        self.dataframe = self._fitting(rows, prompt)
        if not self.dataframe:
            raise InputError(f"{', '.join(self.data_files)}: num_samples=0, every row was dropped: {self.summary()}")
        cut = f"; {len(self.cut)} cut to fit" if self.cut else ""
        name = Path(self.data_files[0]).name
        print(f"{name}: {len(self.dataframe)} samples, dropped: {self.summary()}{cut}", flush=True)

    def summary(self) -> str:
        """What was dropped, by reason: `3 x prompt_too_long`, or `none`."""
        return ", ".join(f"{count} x {reason}" for reason, count in self.dropped.most_common()) or "none"

    def _prompt_config(self) -> PromptConfig:
        given = self.config.get("pairwise") or {}
        values = OmegaConf.to_container(given) if OmegaConf.is_config(given) else dict(given)
        values["max_prompt_length"] = self.max_prompt_length
        return PromptConfig.model_validate(values)

    def _sample(self, rows: list[Row]) -> list[Row]:
        if not 0 < self.max_samples < len(rows):
            return rows
        if not self.shuffle:
            return rows[: self.max_samples]
        chosen: Any = np.random.default_rng(self.seed).choice(len(rows), size=self.max_samples, replace=False)
        return [rows[index] for index in chosen]

    def _fitting(self, rows: list[Row], prompt: PromptConfig) -> list[Row]:
        fitter = PromptFitter(
            tokenizer=self.tokenizer,
            template=self.template,
            max_tokens=self.max_prompt_length,
            overlong=prompt.overlong,
            system=prompt.system,
            chat_template_kwargs=self.apply_chat_template_kwargs,
        )
        kept: list[Row] = []
        for row in rows:
            fitted = fitter.fit(row)
            if fitted is None:
                self.dropped[TOO_LONG] += 1
                continue
            if fitted is not row:
                self.cut.add(len(kept))
            kept.append(fitted)
        return kept

    @staticmethod
    def _normalize_row(row_dict: Mapping[str, Any]) -> Row:
        """A row of either layout, JSON strings decoded, as a row of the contract."""
        return normalize_row(row_dict)

    def _build_messages(self, example: Mapping[str, Any], key: str | None = None) -> list[Message]:
        """The judge's prompt for a row, as chat messages."""
        return self.judge.evaluate(self._normalize_row(example))

    def _extract_ground_truth(self, row_dict: Mapping[str, Any]) -> Preference:
        """The row's label, `A`, `B` or `tie`. Raises UnreadableRow when it has none."""
        return self._normalize_row(row_dict)["preferred"]

    def __getitem__(self, item: int) -> dict[str, Any]:
        row: Row = self.dataframe[item]
        messages = self._build_messages(row)
        extra = {
            "index": item,
            "pair_id": row["pair_id"],
            "order": row["order"],
            "strength": -1 if row["strength"] is None else row["strength"],
            "cut": item in self.cut,
        }
        return {
            "raw_prompt": messages,
            "data_source": row["source"],
            "reward_model": {"style": "rule", "ground_truth": self._extract_ground_truth(row)},
            "extra_info": extra,
            "index": item,
            "tools_kwargs": {},
            "interaction_kwargs": {},
            # verl 0.9 needs one tensor per row; the prompt itself is tokenised by the agent loop.
            "dummy_tensor": torch.tensor([0], dtype=torch.uint8),
        }
