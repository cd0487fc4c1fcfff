"""What is fuzzed: functions of bytes that return, or raise an error of the package with one line.

Each target is at a place where bytes of others come in: row files, pairs, what a judge wrote, YAML, requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pairwise_rm.contract.prompt import OUR_TAGS, PairwiseComparisonTemplate
from pairwise_rm.contract.rows import PREFERENCES, read_rows
from pairwise_rm.contract.verdict import Thinking, extract_preference_from_response
from pairwise_rm.convert.converters import get_converter, known_sources
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.sniff import sniff
from pairwise_rm.convert.source_rows import open_rows
from pairwise_rm.errors import PairwiseError
from pairwise_rm.judge.items import read_items as read_item_file
from pairwise_rm.recipe.load import load_data_config, load_recipe, recipe_yaml
from pairwise_rm.serve.http_api import application, read_items
from pairwise_rm.serve.served_judge import ServedJudge

Target = Callable[[bytes], None]
TOKENS = ("<|im_start|>", "<|im_end|>", "[INST]")


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except PairwiseError as error:
        message = str(error)
        assert message, "an error without a message"
        assert len(message.splitlines()) == 1, f"more than one line: {message!r}"
        message.encode()


@contextlib.contextmanager
def _file(name: str, content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path


def _rows(suffix: str, data: bytes) -> None:
    with _file(f"rows{suffix}", data) as path:
        with _one_line():
            reader = open_rows(path)
            for _, item in reader:
                with _one_line():
                    row = reader.parse(item)
                    for source in known_sources():
                        with contextlib.suppress(RowError):
                            get_converter(source).convert(row)
                reader.text_of(item).encode()
        with _one_line():
            sniff(str(path)).encode()
        with _one_line():
            for item in read_item_file(path):
                item.rows()


def _gzipped(data: bytes) -> None:
    _rows(".json.gz", data if data[:1] == b"\x1f" else gzip.compress(data, 1, mtime=0))


def _zstd(data: bytes) -> None:
    import pyarrow

    frame = data if data[:1] == b"\x28" else pyarrow.compress(data, codec="zstd", asbytes=True)
    _rows(".jsonl.zst", frame)


def _pairs(data: bytes) -> None:
    with _file("preference_train.parquet", data) as path, _one_line():
        template = PairwiseComparisonTemplate(special_tokens=TOKENS)
        for row in read_rows([path]).rows:
            template.messages(row)


def _verdict(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    modes: tuple[Thinking, ...] = ("response", "prompt", "closed")
    for thinking in modes:
        verdict = extract_preference_from_response(text, thinking)
        assert (verdict.preference is None) == (verdict.reason is not None)
        if verdict.preference:
            assert verdict.preference in PREFERENCES
            assert text.count("<preference>") == text.count("</preference>") == 1


@functools.cache
def _template() -> PairwiseComparisonTemplate:
    return PairwiseComparisonTemplate(special_tokens=TOKENS)


def _escaping(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    shown = _template().defuse(text)
    assert not [marker for marker in (*OUR_TAGS, *TOKENS) if marker in shown]
    assert _template().defuse(shown) == shown, "escaped twice is not escaped once"


def _recipe(data: bytes) -> None:
    with _file("recipe.yaml", data) as path, _one_line():
        recipe_yaml(load_recipe(str(path)))


def _data_config(data: bytes) -> None:
    with _file("data_config.yaml", data) as path, _one_line():
        load_data_config(path)


def _override(data: bytes) -> None:
    with _one_line():
        load_recipe("smoke", [data.decode("utf-8", "replace")])


def _request(data: bytes) -> None:
    with _one_line():
        for item in read_items(data)[0]:
            item.rows()


class _Judge:
    """Answers as a judge that is asked for nothing but the names of the items."""

    exported = SimpleNamespace(name="t")

    def __init__(self, client: Any) -> None:
        self.server = SimpleNamespace(client=client, check=self._check)

    async def _check(self) -> None:
        pass

    async def judge(self, items: Any) -> Any:
        return [SimpleNamespace(as_dict=functools.partial(dict, name=item.name)) for item in items]


def _http(data: bytes) -> None:
    """First line: the path and query, undecoded. The rest: the body."""
    import httpx

    target, _, body = data.partition(b"\n")
    raw_path, _, query = target.partition(b"?")
    status: list[int] = []

    said = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in said:
            return message
        # The client stays.
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    async def ask() -> None:
        from urllib.parse import unquote

        upstream: list[Any] = []

        def answer(request: Any) -> Any:
            upstream.append(request)
            return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://vllm") as client:
            scope = {
                "type": "http",
                "method": "GET" if not body else "POST",
                "path": "/" + unquote(raw_path.decode("ascii", "replace")),
                "raw_path": b"/" + raw_path,
                "query_string": query,
                "root_path": "",
                "headers": [(b"content-type", b"application/json")],
                "http_version": "1.1",
                "scheme": "http",
                "server": ("x", 80),
            }
            await application(lambda: cast(ServedJudge, _Judge(client)))(scope, receive, send)
        for request in upstream:
            assert request.url.host == "vllm"
            assert (b"?" in request.url.raw_path) == bool(query), request.url
            assert request.url.raw_path.startswith(b"/v1"), request.url
            assert b".." not in request.url.raw_path.partition(b"?")[0].split(b"/"), request.url

    asyncio.run(ask())
    assert status, "no answer"
    assert status[0] in (200, 307, 400, 404, 405, 422), status


TARGETS: dict[str, Target] = {
    "jsonl": functools.partial(_rows, ".jsonl"),
    "json": functools.partial(_rows, ".json"),
    "csv": functools.partial(_rows, ".csv"),
    "tsv": functools.partial(_rows, ".tsv"),
    "parquet": functools.partial(_rows, ".parquet"),
    "gzip": _gzipped,
    "zstd": _zstd,
    "pairs": _pairs,
    "verdict": _verdict,
    "escaping": _escaping,
    "recipe": _recipe,
    "data_config": _data_config,
    "override": _override,
    "request": _request,
    "http": _http,
}
