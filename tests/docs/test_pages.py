"""What the pages say holds: paths exist, commands and options exist, tables are those of the sources."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import pytest
import typer
import yaml

from docs.hooks import READMES
from pairwise_rm.cli.app import app
from pairwise_rm.contract import rows
from pairwise_rm.convert import converters
from pairwise_rm.convert.fields import RowError
from pairwise_rm.convert.presets import Preset
from pairwise_rm.k8s.stage_status import State
from pairwise_rm.progress import Line
from pairwise_rm.recipe.load import load_data_config, load_recipe
from pairwise_rm.recipe.model import Recipe
from pairwise_rm.train.reward_check import check_reward_function
from tests.chart.rendering import nested, rendered
from tests.paths import CHART, REPO

DOCS = REPO / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *(REPO / readme for readme, _ in READMES.values()), REPO / "README.md"])
_ROOTS = "pairwise_rm|charts|docs|manifests|tests|images|requirements|release|benchmarks|.github"
PATH = re.compile(rf"`((?:{_ROOTS})/[\w./*-]*)`")


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def commands(program: str) -> list[Any]:
    """Commands of the pages that call this program, each once."""
    found: dict[str, Any] = {}
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s+#.*", "", line).strip()
                if command.startswith(f"{program} "):
                    found[command] = pytest.param(command, id=f"{page.name}: {command}"[:80])
    return list(found.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_each_path_that_a_page_names_exists(page: Path) -> None:
    named = PATH.findall(page.read_text(encoding="utf-8"))
    missing = [path for path in named if not (list(REPO.glob(path)) if "*" in path else (REPO / path).exists())]
    assert missing == []


def test_the_way_of_a_pair_is_ten_files_long_at_most() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    hops = re.findall(r"^\| (\d+) \| `(pairwise_rm/[\w/]+\.py)` \|", page, re.MULTILINE)
    assert [int(number) for number, _ in hops] == list(range(1, len(hops) + 1))
    assert 5 <= len(hops) <= 10


def test_readme_and_architecture_show_the_same_picture() -> None:
    assert (DOCS / "images" / "architecture.svg").is_file()
    assert "](docs/images/architecture.svg)" in (REPO / "README.md").read_text(encoding="utf-8")
    assert "](images/architecture.svg)" in (DOCS / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", commands("pairwise-rm"))
def test_each_command_of_the_pages_has_the_options_that_it_is_given(command: str) -> None:
    group: Any = typer.main.get_command(app)
    name, *rest = shlex.split(command)[1:]
    known = {option for parameter in group.commands[name].params for option in parameter.opts}
    assert [word for word in rest if word.startswith("-") and word != "-" and word.split("=")[0] not in known] == []


@pytest.mark.parametrize("command", commands("make"))
def test_each_make_target_of_the_pages_exists(command: str) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert [word for word in command.split()[1:] if "=" not in word and word not in targets] == []


def test_operating_explains_every_state_and_no_other() -> None:
    table = re.findall(r"^\| `(\w+)` \|", (DOCS / "operating.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert table == list(get_args(State))


def test_the_line_that_operating_shows_is_one_that_a_stage_writes() -> None:
    (line,) = blocks(DOCS / "operating.md", "json")
    parsed = Line.parse(line.strip())
    assert parsed is not None
    assert str(parsed) == line.strip()


def values_of_platforms() -> list[Any]:
    found = [yaml.safe_load(block) for block in blocks(DOCS / "platforms.md", "yaml")]
    return [pytest.param(value, id=", ".join(value)) for value in found if "kind" not in value]


@pytest.mark.parametrize("values", values_of_platforms())
def test_the_values_of_each_platform_render(values: dict[str, Any]) -> None:
    assert "RayCluster" in rendered([CHART / "values-a100-8x.yaml"], values)


def test_the_table_of_platforms_is_what_the_chart_renders() -> None:
    page = (DOCS / "platforms.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `([a-z-]+)`(?: \(default\))? \| `(\S+)` \| `(\S+)` \| `(\S+)` \| (.*) \|$", page, re.MULTILINE
    )
    assert [row[0] for row in rows] == ["gpu-operator", "gke", "eks", "aks"]
    for platform, label, small, large, taints in rows:
        for product, name in (("a100-40gb", small), ("a100-80gb", large)):
            values = nested({"poolDefaults.platform": platform, "poolDefaults.gpuProduct": product})
            (cluster,) = rendered([CHART / "values-a100-8x.yaml"], values)["RayCluster"]
            pod = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]
            assert pod["nodeSelector"] == {label: name}
            tolerated = [f"{one['key']}={one['value']}" if "value" in one else one["key"] for one in pod["tolerations"]]
            assert re.findall(r"`([^`]+)`", taints) == tolerated


def test_the_mapping_of_pairs_converts_the_row_below_it(tmp_path: Path) -> None:
    config, of_files, _values = blocks(DOCS / "pairs.md", "yaml")
    path = tmp_path / "data_config.yaml"
    path.write_text(of_files)
    assert load_data_config(path).configs.test_path == "data/test-*.parquet"
    path.write_text(config)
    configs = load_data_config(path).configs
    (row,) = blocks(DOCS / "pairs.md", "json")
    converted = converters.get_converter(configs.source, configs.fields).convert(json.loads(row))
    assert isinstance(converted, converters.Converted)
    assert (converted.pair.preferred, converted.pair.subset, converted.pair.source_id) == ("A", "stem", "7")


def test_the_values_of_pairs_render() -> None:
    _config, _of_files, values = blocks(DOCS / "pairs.md", "yaml")
    assert "RayJob" in rendered([CHART / "values-a100-1x.yaml"], yaml.safe_load(values))


def test_the_table_of_pairs_has_every_source_with_an_example_that_converts() -> None:
    text = (DOCS / "pairs.md").read_text(encoding="utf-8")
    examples = dict(re.findall(r"^\| `(\w+)` \| .* \| `(\{.*\})` \|$", text, flags=re.MULTILINE))
    assert list(examples) == converters.known_sources()
    for source, row in examples.items():
        found = converters.get_converter(source).convert(json.loads(row))
        for one in found.pairs if isinstance(found, converters.SeveralPairs) else [found]:
            better, worse = one.pair.responses
            assert (one.pair.preferred, better.removeprefix("- "), "Because" in worse) == ("A", "Because.", False)
            assert one.pair.messages[-1] == {"role": "user", "content": "Why?"}


def test_the_preset_of_extending_is_a_preset() -> None:
    entry, _reward = (yaml.safe_load(dedent(block)) for block in blocks(DOCS / "extending.md", "yaml"))
    assert Preset.model_validate(entry["debates"]).fields[0].prompt == "question"


def test_the_plain_row_of_the_readme_converts() -> None:
    (row,) = [block for block in blocks(REPO / "README.md", "json") if "response_a" in block]
    assert isinstance(converters.get_converter("generic_pairwise").convert(json.loads(row)), converters.Converted)


def test_the_converter_of_extending_converts_a_row_and_says_what_is_wrong_with_one() -> None:
    code, _reward = blocks(DOCS / "extending.md", "python")
    names: dict[str, Any] = {**vars(converters), **vars(rows)}
    exec(code, names)
    row = {"question": "Is it?", "pro": "Yes.", "contra": "No.", "winner": "contra", "fold": "test"}
    converted = names["DebateConverter"]().convert(row)
    assert (converted.pair.preferred, converted.pair.responses, converted.split) == ("B", ("Yes.", "No."), "test")
    with pytest.raises(RowError, match="winner: 'me', expected pro, contra or draw"):
        names["DebateConverter"]().convert({**row, "winner": "me"})
    with pytest.raises(RowError, match="winner: missing"):
        names["DebateConverter"]().convert({key: text for key, text in row.items() if key != "winner"})
    other = names["DebateConverter"]().convert({**row, "fold": "dev"})
    assert str(other.split) == "fold: 'dev', expected one of train, test"


def test_the_reward_of_extending_passes_the_check_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _config, reward = blocks(DOCS / "extending.md", "yaml")
    _converter, code = blocks(DOCS / "extending.md", "python")
    (tmp_path / "brief.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.model_validate({"name": "t", "model": {"path": "m"}, **yaml.safe_load(reward)})
    check_reward_function(recipe)


def test_the_recipe_of_the_reference_is_valid(tmp_path: Path) -> None:
    (recipe,) = blocks(DOCS / "recipe.md", "yaml")
    path = tmp_path / "my-judge.yaml"
    path.write_text(recipe)
    assert load_recipe(str(path)).name == "my-judge"
