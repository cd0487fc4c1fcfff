"""Where inputs come from: bytes at random, words of the format in any order, and sound inputs with a few changes."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from hypothesis import strategies as st

from pairwise_rm.contract.rows import Pair, both_orders
from tests.unit.contract.hostile_texts import ATTACKS

_ROW = {"prompt": "Why?", "response_1": "a", "response_2": "b", "preference_strength": -2, "split": "train"}
_TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
_ROWS: list[dict[str, Any]] = [
    _ROW,
    {"chosen": _TURNS, "rejected": [_TURNS[0], {"role": "assistant", "content": "No."}], "id": 1},
    {"context": _TURNS[:1], "response1": "a", "response2": "b", "overall_preference": 3, "domain": "code"},
    {"messages": _TURNS[:1], "response_a": "a", "response_b": "b", "preferred": "A", "preference_strength": None},
]
_ITEM = {"prompt": "Why?", "response_a": "a", "response_b": "b", "id": "x1"}
_JSON_WORDS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\ud800", b"\\u0000", b"null", b"true", b"NaN", b"-1e999", b"\n"),
    *(b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"\x00", b"1.0", b" "),
    *(json.dumps(word).encode() for row in [*_ROWS, _ITEM] for word in row),
]
_YAML_WORDS = [
    *b": |  |- |&a |*a |<<: |[|]|{|}|!!int |!!timestamp |!!set |!!binary |!!python/name:os.system |? |'|null".split(
        b"|"
    ),
    *b"2001-99-99|0b_|0x_|190:20:30|a: &a [*a]|...|.inf|%YAML 9.9|model:|path:|train:|steps:|dataset:|name:".split(
        b"|"
    ),
    *b"configs:|export:|fields:|prompt:|template:|output_dir:".split(b"|"),
    *(b"\n", b"|\n", b"---\n", b"9" * 5000, b"[" * 1000, b"\x00", b"\xc2\x85", b"\xe2\x80\xa8"),
]
_BOMB = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b", ".join([b"*%c" % (letter - 1)] * 10))
    for letter in range(ord("b"), ord("k"))
)
_TEXT_WORDS = [
    *(text.encode("utf-8", "replace") for text in ATTACKS.values()),
    *(b"<think>", b"</think>", b"<preference>", b"</preference>", b"A", b"B", b"tie", b" ", b"\n", b"<", b"[INST]"),
    *("# Response B,\u200b,\uff1c,\uff1e,\uff5c,\u2028,\r,\\,|>,<|,im_end,#,\u0301,&lt;".encode().split(b",")),
]
_HTTP_WORDS = [
    *b"v1/ judge healthz v1/models .. %2e%2e %2F %00 %0a %3f %23 ? /  //evil.example @evil.example % %ff %c3".split(),
    *(b"\xff", b"\n", b"#", b"a=b", b"%25", b"\\", b";", b":"),
    json.dumps(_ITEM).encode(),
]
_TABLE_WORDS = [b",", b"\t", b'"', b'""', b"\r", b"\n", b"prompt", b"id", b"\x00", b"\xff", b"1e9"]
_PARQUET_WORDS = [b"PAR1", b"\x00" * 8, b"\xff" * 4]
_WORDS = {
    **dict.fromkeys(("jsonl", "json", "gzip", "zstd", "request"), _JSON_WORDS),
    **dict.fromkeys(("csv", "tsv"), _TABLE_WORDS),
    **dict.fromkeys(("parquet", "pairs"), _PARQUET_WORDS),
    **dict.fromkeys(("verdict", "escaping"), _TEXT_WORDS),
    **dict.fromkeys(("recipe", "data_config", "override"), _YAML_WORDS),
    "http": [*_HTTP_WORDS, *_JSON_WORDS],
}


def _parquet(rows: Sequence[Any], **options: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink, **options)
    return sink.getvalue()


def _sound(target: str) -> list[bytes]:
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in _ROWS)
    pair = Pair([{"role": "user", "content": "Why?"}], ("a", "b"), "A", 1, "test")
    upstream = {
        "input": json.dumps(_TURNS[:1]),
        "output": json.dumps([{"answer": {"role": "assistant", "content": text}} for text in "ab"]),
        "metadata": json.dumps({"preferred": "A", "preference_strength": 1, "sample_type": "original_order"}),
    }
    match target:
        case "jsonl" | "gzip" | "zstd":
            return [lines, json.dumps(_ITEM).encode()]
        case "json":
            return [json.dumps(_ROWS, indent=1).encode(), lines]
        case "csv" | "tsv":
            separator = "," if target == "csv" else "\t"
            return ["\n".join(separator.join(map(str, part)) for part in (_ROW, _ROW.values())).encode()]
        case "parquet":
            return [_parquet([_ROW] * 3), _parquet(_ROWS[1:2], compression="none")]
        case "pairs":
            return [_parquet(both_orders(pair)), _parquet([upstream]), _parquet(both_orders(pair), compression="none")]
        case "recipe":
            shipped = resources.files("pairwise_rm.recipe") / "shipped"
            return [_BOMB, *(shipped.joinpath(f"{name}.yaml").read_bytes() for name in ("smoke", "smollm2"))]
        case "data_config":
            return [_BOMB, b"dataset:\n  name: a\n  configs:\n    path: x.jsonl\n  export:\n    output_dir: o\n"]
        case "override":
            return [b"train.steps=3", b"prompt.template='{{ query }}'", b"train.verl.a.b=[1, {x: 2001-01-01}]"]
        case "request":
            return [json.dumps(_ITEM).encode(), json.dumps([_ITEM, _ITEM]).encode()]
        case "http":
            return [b"judge\n" + json.dumps(_ITEM).encode(), b"v1/chat/completions?x=1\n{}", b"healthz"]
        case _:
            return [b"<think>x</think><preference>A</preference>"]


@st.composite
def _changed(draw: st.DrawFn, sound: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 4, 16, 100_000])))
        data[start:end] = draw(st.sampled_from(words) | st.binary(max_size=4) | st.just(bytes(data[start:end] * 2)))
    return bytes(data)


def inputs_for(target: str, corpus: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Bytes for a target; `corpus` is changed as its sound inputs are."""
    words, sound = _WORDS[target], _sound(target)
    any_order = st.lists(st.sampled_from(words), max_size=12).map(b"".join)
    return st.binary(max_size=200) | any_order | _changed([*sound, *corpus], words) | st.sampled_from(sound)
