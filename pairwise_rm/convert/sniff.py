"""`convert --sniff FILE`: which source a file's rows are of, or what a field mapping for them could look like.

Each converter and preset is tried on the first rows. The one that makes pairs of most of them is named; of several, the
one that reads most of their columns. Where none fits, the fields are listed with an example value, and a mapping is
printed in which only what the names cannot tell is left open.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pairwise_rm.contract.rows import Pair
from pairwise_rm.convert.converters import Converted, Converter, SeveralPairs, get_converter, known_sources
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.mapping_draft import OPEN, Field, draft, yaml_word
from pairwise_rm.convert.presets import presets
from pairwise_rm.convert.source_file import locate
from pairwise_rm.convert.source_rows import open_rows
from pairwise_rm.errors import InputError
from pairwise_rm.recipe.model import SourceConfig

ROWS = 100
"""So many rows are looked at."""
_OWN_ROWS = {"pair_id", "order", "messages", "responses", "preferred"}
_UPSTREAM_ROWS = {"input", "output", "metadata", "task_category"}
_LAST = "generic_pairwise"
_ABOUT = {
    "helpsteer2_pairwise": "HelpSteer2's preference rows",
    "helpsteer3_preference": "HelpSteer3-Preference's rows",
    "generic_pairwise": "plain columns",
}
_SHOWN = 100


class Fit(NamedTuple):
    """A source tried on rows: the pairs that it makes, and why it makes none of the others."""

    source: str
    pairs: list[Converted]
    refused: list[tuple[int, RowError]]
    columns_read: set[str]


class Sample(NamedTuple):
    """The first rows of a file, with their numbers."""

    rows: list[tuple[int, dict[str, Any]]]

    @property
    def columns(self) -> dict[str, None]:
        return dict.fromkeys(name for _, row in self.rows for name in row)


def sniff(path: str) -> str:
    """What there is to say about a file, as text. Raises InputError for a file without any row."""
    sample = _sample(path)
    if set(sample.columns) >= _OWN_ROWS or set(sample.columns) >= _UPSTREAM_ROWS:
        return f"{path}: pairs that are converted already; name them as data.files in a recipe, or evaluate --data"
    fit = best_fit(sample)
    text = "\n".join(_fitting(path, sample, fit) if fit else _mapping(path, sample))
    # A row that is refused, and its columns, may hold half a surrogate pair, which no terminal takes.
    return text.encode("utf-8", "backslashreplace").decode()


def _sample(path: str) -> Sample:
    file = locate(SourceConfig(path=path), None).files[0].path
    rows, wrong = [], None
    reader = open_rows(file)
    for number, item in itertools.islice(reader, ROWS):
        try:
            rows.append((number, reader.parse(item)))
        except RowError as error:
            wrong = wrong or f"{file}:{number}: {error}"
    if not rows:
        raise InputError(wrong or f"{file}: holds no rows, expected preference pairs")
    return Sample(rows)


def best_fit(sample: Sample) -> Fit | None:
    """The source that makes pairs of most rows, and at least of half; of several the one that reads most columns."""
    names = [*(name for name in known_sources() if name != _LAST), _LAST]
    fits = [fit for name in names if 2 * len((fit := _tried(name, sample)).refused) <= len(sample.rows)]
    return max(fits, key=lambda fit: (-len(fit.refused), _known(fit, sample)), default=None)


def _tried(name: str, sample: Sample) -> Fit:
    converter: Converter = get_converter(name)
    pairs: list[Converted] = []
    refused: list[tuple[int, RowError]] = []
    for number, row in sample.rows:
        try:
            found = converter.convert(row)
        except RowError as error:
            refused.append((number, error))
            continue
        several = found.pairs if isinstance(found, SeveralPairs) else [found]
        unknown = next((one.split for one in several if isinstance(one.split, RowError)), None)
        if unknown is None:
            pairs += several
        else:
            refused.append((number, unknown))
    return Fit(name, pairs, refused, set(sample.columns) & (converter.columns or set()))


def _known(fit: Fit, sample: Sample) -> int:
    """How many columns speak for a source: those that it reads, and those that are said to tell it from others."""
    preset = presets().get(fit.source)
    marks = preset.sniff if preset else {}
    found = [
        all(str(row.get(column) or "").startswith(start) if start else column in row for _, row in sample.rows)
        for column, start in marks.items()
    ]
    return len(fit.columns_read) + len(found) if all(found) else 0


# ---- what is printed -----------------------------------------------------------------------------


def _fitting(path: str, sample: Sample, fit: Fit) -> Iterator[str]:
    about = presets()[fit.source].about if fit.source in presets() else _ABOUT[fit.source]
    looked, made = len(sample.rows), len(sample.rows) - len(fit.refused)
    yield f"{path}: fits `source: {fit.source}` ({about})"
    yield f"{made} of the first {looked} rows are pairs: {_labels(fit)}"
    if fit.refused:
        number, error = fit.refused[0]
        reasons = Counter(refused.reason for _, refused in fit.refused)
        told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        yield f"{len(fit.refused)} are not, and need max_rejected: {told}; row {number}: {error}"
    unread = [name for name in sample.columns if name not in fit.columns_read]
    yield f"read: {', '.join(name for name in sample.columns if name in fit.columns_read)}"
    if unread:
        yield f"not read: {', '.join(unread)}"
    yield from ("", "the first pair", *_pair(fit.pairs[0].pair), "")
    yield from _data_config(fit.source, path, [f"    source: {fit.source}"], _has_both_sides(fit))


def _labels(fit: Fit) -> str:
    counts = Counter(one.pair.preferred for one in fit.pairs)
    return " · ".join(f"{label} {counts[label]}" for label in ("A", "B", "tie"))


def _has_both_sides(fit: Fit) -> bool:
    return {one.split for one in fit.pairs} == {"train", "test"}


def _pair(pair: Pair) -> Iterator[str]:
    for turn in pair.messages:
        yield f"  {turn['role']:<10} {_cut(turn['content'])}"
    yield f"  response A {_cut(pair.responses[0])}"
    yield f"  response B {_cut(pair.responses[1])}"
    yield f"  preferred  {pair.preferred}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _mapping(path: str, sample: Sample) -> Iterator[str]:
    found = draft([row for _, row in sample.rows])
    yield f"{path}: no known source fits the first {len(sample.rows)} rows; their fields are"
    yield ""
    yield from _listed(found.fields)
    yield ""
    yield f"A mapping by their names. Check it, replace each {OPEN}, and give it to `pairwise-rm convert --config`:"
    yield ""
    yield from _data_config("mine", path, ["    source: generic_pairwise", "    fields:", *found.lines], False)


def _listed(fields: Mapping[str, Field]) -> Iterator[str]:
    width = min(40, max(map(len, fields), default=0))
    return (f"  {name:<{width}}  {_cut(field.example)}" for name, field in fields.items())


def _data_config(name: str, path: str, source: Sequence[str], official: bool) -> Iterator[str]:
    yield from ("dataset:", f"  name: {name}", "  configs:", f"    path: {yaml_word(path)}", *source, "  export:")
    yield f"    output_dir: {name}"
    yield "    split: official" if official else "    split_ratio: {train: 0.9, test: 0.1}"
