"""`verdicts.parquet`: one row per judged row, with the label, the verdict, and what the model wrote.

The texts of the pairs stay in the data file; `pair_id` and `order` join the two. Columns with one value per sample are
lists.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwise_rm.contract.prompt_identity import prompt_id
from pairwise_rm.contract.rows import Row
from pairwise_rm.errors import InputError

if TYPE_CHECKING:
    import pyarrow

    from pairwise_rm.evaluate.row_verdicts import RowVerdict


_LATER = {"source_id"}
"""Columns that files of earlier versions lack; read as null."""


def verdict_columns(rows: Sequence[Row], verdicts: Sequence[RowVerdict]) -> dict[str, list[Any]]:
    """The columns of verdicts.parquet, by name."""
    records = [_record(row, row_verdict) for row, row_verdict in zip(rows, verdicts, strict=True)]
    return {name: [record[name] for record in records] for name in _schema().names}


def _record(row: Row, row_verdict: RowVerdict) -> dict[str, Any]:
    right = [sample.preference == row["preferred"] for sample in row_verdict.samples]
    return {
        "pair_id": row["pair_id"],
        "order": row["order"],
        "prompt_id": prompt_id(row["messages"]),
        "source": row["source"],
        "subset": row["subset"],
        "source_id": row["source_id"],
        "strength": row["strength"],
        "preferred": row["preferred"],
        "verdict": row_verdict.verdict,
        "valid": row_verdict.verdict is not None,
        "correct": row_verdict.verdict == row["preferred"],
        "reason": row_verdict.reason,
        "length_a": len(row["responses"][0]),
        "length_b": len(row["responses"][1]),
        "cut": row_verdict.cut,
        "prompt_tokens": row_verdict.prompt_tokens,
        "samples_right": sum(right) / len(right) if right else 0.0,
        "sample_verdicts": [sample.preference for sample in row_verdict.samples],
        "sample_reasons": [sample.reason for sample in row_verdict.samples],
        "sample_tokens": row_verdict.tokens,
        "reasoning": [sample.reasoning for sample in row_verdict.samples],
        "text": row_verdict.texts,
    }


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    text, truth, count = pa.string(), pa.bool_(), pa.int32()
    return pa.schema(
        {
            "pair_id": text,
            "order": text,
            "prompt_id": text,
            "source": text,
            "subset": text,
            "source_id": text,
            "strength": pa.int8(),
            "preferred": text,
            "verdict": text,
            "valid": truth,
            "correct": truth,
            "reason": text,
            "length_a": count,
            "length_b": count,
            "cut": truth,
            "prompt_tokens": count,
            "samples_right": pa.float64(),
            "sample_verdicts": pa.list_(text),
            "sample_reasons": pa.list_(text),
            "sample_tokens": pa.list_(count),
            "reasoning": pa.list_(text),
            "text": pa.list_(text),
        }
    )


def write_verdicts(path: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    content = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=_schema()), content, compression="zstd")
    path.write_bytes(content.getvalue())  # whose errors are the system's own, where Arrow's are prose


def read_verdicts(path: Path, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """The columns by name. Raises InputError when the file is missing, damaged or of another kind."""
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file():
        raise InputError(f"{path}: no such file; `pairwise-rm evaluate` writes it")
    try:
        opened = parquet.ParquetFile(path)
        absent = set(columns or _schema().names) - set(opened.schema_arrow.names)
        if missing := sorted(absent - _LATER):
            raise InputError(f"{path}: not a verdicts file: column {missing[0]} is missing")
        held: dict[str, list[Any]] = opened.read(columns=list(columns) if columns else None).to_pydict()
        return held | {name: [None] * opened.metadata.num_rows for name in absent}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file: {str(error).splitlines()[0]}") from error
