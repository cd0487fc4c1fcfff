"""Speed, memory and file size of `convert`: one command, one table.

    python benchmarks/convert.py [--rows 9744] [--runs 5] [--growth 4] [--corpus preferences.jsonl]

**Input.** Made here, seeded, and cached in the temporary folder: rows in HelpSteer2's format and proportions (a
prompt of 1.1 kB, two responses of 1.6 kB, the annotators' statements for the rest; 5.1 kB a row; 29 % multi-turn,
22 % ties). The words come from a Markov chain over `--corpus`, any text or JSON lines file, or over Python's own
help topics. The chain has order 2, and every fifth word is drawn from the whole corpus: alone, a chain of order 2
repeats its corpus and compresses too well. So mixed it is as hard to compress as human text (gzip 2.7 times, zstd
2.8 times over 0.5 MB; LLMBar's answers 2.8 and 2.9). The first line prints what gzip makes of the file and of
HelpSteer2 itself (15,339,272 bytes for 9,125 rows).

**Measured.** Whole processes, interpreter start and imports included, with byte code cached as pip leaves it:
wall-clock time and peak resident memory (`os.wait4`), median of `--runs`, variants taken in turn.
  ours        `pairwise_rm.convert.run.convert` with RM-Gallery's 80/20 split; reads, checks, hashes, deduplicates.
  mapped      the same file read by a field mapping (`data.configs.fields`) with label words, instead of by HelpSteer2's
              converter.
  20 shards   the same rows as 20 files, given as a folder.
  command     the same through the command line, `pairwise-rm convert`, where that is installed.
  floor       pyarrow alone: `pyarrow.json.read_json` of that file, both orders made by pyarrow kernels into the
              same rows and columns (pair_id is a row number, every prompt one turn), one parquet with the same
              compression. No checks, hashes, split or manifest, and no Python object per row.
**Upstream** is quoted, not run: 5.25 s, 968 MB and a parquet of 45.9 MB for 9,744 rows of 50 MB, on two cores of
another machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

ROWS = 9_744
SHARDS = 20
UPSTREAM_SECONDS, UPSTREAM_MB, UPSTREAM_PARQUET_MB = 5.25, 968.0, 45.9
HELPSTEER2_GZIP_BYTES_A_ROW = 15_339_272 / 9_125
AIM_SPEED, AIM_MEMORY, AIM_PARQUET, AIM_FLOOR = 8.0, 0.25, 0.25, 1.5

PROMPT, RESPONSE, STATEMENT, ELABORATION = 830, 1_460, 30, 80
"""Mean characters of a field."""
NON_ASCII = 0.04
"""Share of texts with typographic apostrophes, which is LLMBar's share of texts that are not plain ASCII."""
PLAIN = str.maketrans("’‘“”—–", "''\"\"--")
NOVELTY = 0.2
"""How often the next word is any word of the corpus and not one that followed the last two there."""

OURS = """
import sys
from pathlib import Path
from pairwise_rm.convert.run import convert
from pairwise_rm.recipe.model import DatasetConfig
export = {"split_ratio": {"train": 0.8, "test": 0.2}}
convert(DatasetConfig.model_validate({"configs": {"path": sys.argv[1]}, "export": export}), Path(sys.argv[2]))
"""

MAPPED = """
import sys
from pathlib import Path
from pairwise_rm.convert.run import convert
from pairwise_rm.recipe.model import DatasetConfig
label = {"from": "preference_strength", "A": [-3, -2, -1], "B": [1, 2, 3], "tie": [0]}
fields = {"prompt": "prompt", "response_a": "response_1", "response_b": "response_2", "preferred": label}
configs = {"path": sys.argv[1], "source": "generic_pairwise", "fields": fields}
export = {"split_ratio": {"train": 0.8, "test": 0.2}}
convert(DatasetConfig.model_validate({"configs": configs, "export": export}), Path(sys.argv[2]))
"""

FLOOR = """
import sys
import pyarrow as pa, pyarrow.compute as pc, pyarrow.json as pj, pyarrow.parquet as pq
table = pj.read_json(sys.argv[1])
count = table.num_rows
twice = pa.array([index for index in range(count) for _ in (0, 1)], pa.int32())
orders = pa.array([i for n in range(count) for i in (n, n + count, n + count, n)], pa.int32())
column = lambda name: table[name].combine_chunks()
constant = lambda value: pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [value]).take(twice)
offsets = pa.array(range(count + 1), pa.int32())
turns = pa.StructArray.from_arrays([pa.array(["user"] * count), column("prompt")], names=["role", "content"])
messages = pa.ListArray.from_arrays(offsets, turns).take(twice)
both = pa.concat_arrays([column("response_1"), column("response_2")]).take(orders)
responses = pa.ListArray.from_arrays(pa.array(range(0, 4 * count + 1, 2), pa.int32()), both)
strength = column("preference_strength").take(twice)
signs = pa.array([1, -1] * count, pa.int64())
preferred = pc.choose(pc.add(pc.sign(pc.multiply(strength, signs)), 1), "A", "tie", "B")
columns = {
    "pair_id": pc.cast(twice, pa.string()), "order": pa.array(["original", "swapped"] * count), "messages": messages,
    "responses": responses, "preferred": preferred, "strength": pc.cast(pc.abs(strength), pa.int8()),
    "source": constant("helpsteer2_pairwise"), "subset": pa.nulls(2 * count, pa.string()),
    "source_id": pa.nulls(2 * count, pa.string()),
}
pq.write_table(pa.table(columns), sys.argv[2] + "/preference.parquet", compression="zstd", compression_level=3)
"""


class Run(NamedTuple):
    seconds: float
    peak_mb: float
    parquet_mb: float


# ---- the input -----------------------------------------------------------------------------------


class Chain:
    """A Markov chain of words, of order 2 but for every fifth word."""

    def __init__(self, text: str, seed: int) -> None:
        words = re.findall(r"\S+\s?", text)
        self._random = random.Random(seed)
        self._words = words
        self._next: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for first, second, third in zip(words, words[1:], words[2:], strict=False):
            self._next[first, second].append(third)

    def text(self, mean: int) -> str:
        """Text of about `mean` characters; lengths spread as those of answers do (log-normal)."""
        draw = self._random.random
        wanted = mean * self._random.lognormvariate(-0.18, 0.6)
        start = int(draw() * (len(self._words) - 3))
        first, second = self._words[start], self._words[start + 1]
        parts = [first, second]
        length = len(first) + len(second)
        while length < wanted:
            choices = self._words if draw() < NOVELTY else self._next.get((first, second), self._words)
            first, second = second, choices[int(draw() * len(choices))]
            parts.append(second)
            length += len(second)
        text = "".join(parts).strip()
        return text.replace("'", "’") if draw() < NON_ASCII else text


def rows(count: int, corpus: str, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Preference rows with HelpSteer2's fields, proportions and share of ties, val rows and multi-turn prompts."""
    chain, draw = Chain(corpus, seed), random.Random(seed)
    for _ in range(count):
        prompt = chain.text(PROMPT)
        if draw.random() < 0.29:
            half = len(prompt) // 2
            prompt = f"{prompt[:half]}\n<extra_id_1>Assistant\n{chain.text(300)}\n<extra_id_1>User\n{prompt[half:]}"
        strength = draw.choices((-3, -2, -1, 0, 1, 2, 3), (7, 13, 18, 22, 19, 14, 7))[0]
        annotators = [{"statement": chain.text(STATEMENT), "elaboration": chain.text(ELABORATION)} for _ in range(3)]
        yield {
            "split": "val" if draw.random() < 0.05 else "train",
            "prompt": prompt,
            "response_1": chain.text(RESPONSE),
            "response_2": chain.text(RESPONSE),
            "preference_strength": strength,
            "preference_statement": annotators[0]["statement"],
            "preference_elaboration": annotators[0]["elaboration"],
            "three_most_similar_preferences": [{**annotator, "strength": strength} for annotator in annotators],
            "all_preferences_unprocessed": [
                {"strength": strength, "justification": a["statement"]} for a in annotators
            ],
        }


def corpus_text(path: Path | None) -> str:
    """All the text of a file, or Python's help topics."""
    if path is None:
        import pydoc_data.topics

        return "\n".join(pydoc_data.topics.topics.values()).translate(PLAIN)
    text = path.expanduser().read_text(encoding="utf-8")
    if path.suffix != ".jsonl":
        return text
    return "\n".join(
        value for line in text.splitlines() for value in json.loads(line).values() if isinstance(value, str)
    )


def make_input(folder: Path, count: int, corpus: Path | None, console: Console) -> Path:
    """The generated file, made when it is not there."""
    path = folder / f"helpsteer2-v2-{corpus.stem if corpus else 'python'}-{count}.jsonl"
    if not path.exists():
        with console.status(f"generating {count:,} rows, kept for next time in {folder}"):
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            with open(temporary, "w", encoding="utf-8") as handle:
                for row in rows(count, corpus_text(corpus)):
                    handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            temporary.replace(path)
    return path


def make_shards(source: Path, count: int) -> Path:
    """A folder with the lines of a file in `count` files."""
    folder = source.with_suffix(f".{count}-shards")
    if not folder.exists():
        temporary = folder.with_suffix(f".{os.getpid()}.tmp")
        temporary.mkdir()
        lines = source.read_bytes().splitlines(keepends=True)
        for index in range(count):
            part = lines[index * len(lines) // count : (index + 1) * len(lines) // count]
            (temporary / f"train-{index:05}.jsonl").write_bytes(b"".join(part))
        temporary.replace(folder)
    return folder


def gzip_bytes_a_row(path: Path, rows_taken: int = 1_000) -> float:
    with open(path, "rb") as handle:
        sample = b"".join(handle.readline() for _ in range(rows_taken))
    return len(gzip.compress(sample, 6)) / sample.count(b"\n")


# ---- the measurement -----------------------------------------------------------------------------


def measure(command: Sequence[str], output: Path, environment: dict[str, str]) -> Run:
    """One whole process; raises CalledProcessError with its output when it fails."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, log.read().decode())
    parquet = sum(path.stat().st_size for path in output.glob("*.parquet"))
    return Run(seconds, usage.ru_maxrss / 1024 * 1.048576, parquet / 1e6)


def median(runs: Sequence[Run]) -> Run:
    return Run(*(statistics.median(values) for values in zip(*runs, strict=True)))


def commands(source: Path, folder: Path) -> dict[str, tuple[list[str], Path]]:
    """What is measured: name -> command and the folder it writes into."""
    found: dict[str, tuple[list[str], Path]] = {}
    shards = make_shards(source, SHARDS)
    variants = {
        "ours": (OURS, source),
        "mapped": (MAPPED, source),
        f"{SHARDS} shards": (OURS, shards),
        "floor": (FLOOR, source),
    }
    for name, (code, path) in variants.items():
        output = folder / f"out-{name.replace(' ', '-')}"
        found[name] = ([sys.executable, "-c", code, str(path), str(output)], output)
    command = Path(sys.executable).with_name("pairwise-rm")
    if command.exists():
        output = folder / "out-command"
        config = folder / "data_config.yaml"
        export = {"output_dir": str(output), "split_ratio": {"train": 0.8, "test": 0.2}}
        # JSON is YAML.
        config.write_text(json.dumps({"dataset": {"configs": {"path": str(source)}, "export": export}}))
        found["command"] = ([str(command), "convert", "--config", str(config)], output)
    return found


def ratio(value: float, aim: float, met: Callable[[float, float], bool]) -> str:
    return f"[{'green' if met(value, aim) else 'red'}]{value:.2f}[/]"


def table(medians: dict[str, Run]) -> Table:
    shown = Table(title="convert, whole process")
    for heading in (
        "",
        "seconds",
        "× upstream",
        "peak MB",
        "of upstream",
        "parquet MB",
        "of upstream",
        "× floor's time",
    ):
        shown.add_column(heading, justify="left" if not heading else "right")
    shown.add_row(
        "upstream (quoted)",
        f"{UPSTREAM_SECONDS}",
        "1.00",
        f"{UPSTREAM_MB:.0f}",
        "1.00",
        f"{UPSTREAM_PARQUET_MB}",
        "1.00",
        "",
    )
    for name, run in medians.items():
        shown.add_row(
            name,
            f"{run.seconds:.2f}",
            ratio(UPSTREAM_SECONDS / run.seconds, AIM_SPEED, float.__ge__),
            f"{run.peak_mb:.0f}",
            ratio(run.peak_mb / UPSTREAM_MB, AIM_MEMORY, float.__le__),
            f"{run.parquet_mb:.2f}",
            ratio(run.parquet_mb / UPSTREAM_PARQUET_MB, AIM_PARQUET, float.__le__),
            ratio(run.seconds / medians["floor"].seconds, AIM_FLOOR, float.__le__),
        )
    shown.add_row("aim", "", f"≥ {AIM_SPEED:.0f}", "", f"≤ {AIM_MEMORY}", "", f"≤ {AIM_PARQUET}", f"≤ {AIM_FLOOR}")
    return shown


def to_floor(runs: dict[str, list[Run]]) -> str:
    """Each variant's time against the floor's of the same turn, so that a machine that gets slower does not count."""
    told = []
    for name in ("ours", "mapped", f"{SHARDS} shards"):
        ratios = [run.seconds / floor.seconds for run, floor in zip(runs[name], runs["floor"], strict=True)]
        shown = {"ours": "HelpSteer2"}.get(name, name)
        told.append(f"{shown} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return f"× pyarrow's floor, by turn: {', '.join(told)}; aim ≤ {AIM_FLOOR}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--growth", type=int, default=4, help="also convert this many times the rows; 1: do not")
    parser.add_argument("--corpus", type=Path, help="text or .jsonl the words are drawn from")
    arguments = parser.parse_args()
    console = Console(width=max(120, Console().width))
    folder = Path(tempfile.gettempdir()) / f"pairwise-rm-benchmark-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # As pip leaves a package: with byte code, which the first round below writes.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    source = make_input(folder, arguments.rows, arguments.corpus, console)
    megabytes = source.stat().st_size / 1e6
    console.print(
        f"input: {arguments.rows:,} rows, {megabytes:.1f} MB; gzip {gzip_bytes_a_row(source):,.0f} bytes a row "
        f"(HelpSteer2: {HELPSTEER2_GZIP_BYTES_A_ROW:,.0f}); {os.cpu_count()} cores"
    )
    variants = commands(source, folder)
    runs: dict[str, list[Run]] = {name: [] for name in variants}
    with console.status("measuring") as status:
        for turn in range(arguments.runs + 1):
            for name, (command, output) in variants.items():
                status.update(f"measuring {name}, run {turn} of {arguments.runs}")
                run = measure(command, output, environment)
                if turn:
                    runs[name].append(run)
    medians = {name: median(taken) for name, taken in runs.items()}
    console.print(table(medians))
    console.print(to_floor(runs))
    if arguments.rows != ROWS:
        console.print(f"upstream's figures are for {ROWS:,} rows: the ratios to it mean nothing here", style="red")
    if arguments.growth > 1:
        large = make_input(folder, arguments.rows * arguments.growth, arguments.corpus, console)
        with console.status("measuring the larger input"):
            grown = measure(*commands(large, folder)["ours"], environment)
        console.print(
            f"memory: peak {medians['ours'].peak_mb:.0f} MB for {arguments.rows:,} rows, {grown.peak_mb:.0f} MB for "
            f"{arguments.growth} times as many ({large.stat().st_size / 1e6:.0f} MB, {grown.seconds:.2f} s)"
        )


if __name__ == "__main__":
    main()
