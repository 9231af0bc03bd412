"""``docs/configuration.md`` says what the code says: every key, default, option and spelling."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tisslm import errors
from tisslm.cli.main import INTERRUPTED, READER_LEFT, _exit_code
from tisslm.config import DataSection, EmaConfig, LogSection, ModelSection, TrainingConfig
from tisslm.config.aliases import ELSEWHERE, FLAGS, SPELLINGS
from tisslm.config.counterparts import NO_COUNTERPART, VALUES
from tisslm.config.durations import DurationsConfig
from tisslm.config.model import FAMILIES, FAMILY, PRESETS, TransformerConfig
from tisslm.config.precedence import DEFAULT_PARTS, SECTION_KEYS
from tisslm.config.sections import GroupConfig, Grouping
from tisslm.models.layers.norm import NORMS
from tisslm.registry import load_registry
from tisslm.training.interruption import EXIT_CODE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

#: Kinds that are configured, the section that documents them, and the arguments before options.
KINDS = {
    "tokenizer": ("tokenizer", 1),
    "optimizer": ("optimizer", 2),
    "scheduler": ("scheduler", 1),
    "loss": ("loss", 0),
    "sink": ("log", 0),
    "monitor": ("log", 0),
}

#: Options that only Python can give.
PYTHON_ONLY = {("console", "stream"), ("console", "clock")}

#: Sizes that follow from others: words, not values.
DERIVED = {"n_kv_head", "head_dim", "n_hidden"}


def chapter(heading: str, text: str = PAGE) -> str:
    """Return what is below a heading, to the next one of its level or above."""
    level = heading.index(" ")
    start = re.search(rf"^{re.escape(heading)}$", text, flags=re.MULTILINE)
    assert start, heading
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{level}}} ", rest, flags=re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str, first_column: str) -> dict[str, list[str]]:
    """Return the rows of the first table whose first heading is this: first cell to the others."""
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |")]
    assert heads, f"no table of {first_column}"
    found = {}
    for line in lines[heads[0] + 2 :]:
        if not line.startswith("|"):
            break
        first, *others = (c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1])
        assert first not in found, first
        found[first] = others
    return found


def keys(text: str, first_column: str = "key") -> dict[str, str]:
    """Return each key's default, as written."""
    table = rows(text, first_column)
    for name, cells in table.items():
        assert re.fullmatch(r"`\w+`", name)
        assert len(cells) == 2
        assert cells[1], f"{name} has no meaning"
    return {name.strip("`"): cells[0] for name, cells in table.items()}


def assert_default(written: str, default: Any) -> None:
    """A value is written as TOML in backticks; anything else is in words."""
    code = re.fullmatch(r"`([^`]+)`", written)
    if default is None or default is inspect.Parameter.empty:
        assert written
        assert not code, f"{written}: expected words, there is no default"
        return
    assert code, f"{written}: expected {default!r}"
    value = tomllib.loads(f"value = {code[1]}")["value"]
    default = list(default) if isinstance(default, tuple) else default
    assert (value, type(value)) == (default, type(default))


def test_every_section_has_a_chapter_and_no_other():
    found = re.findall(r"^### \[(\w+)\]$", PAGE, flags=re.MULTILINE)
    assert sorted(found) == sorted(SECTION_KEYS)


SECTIONS = [TrainingConfig, DataSection, LogSection, DurationsConfig, EmaConfig]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_and_its_default(section):
    documented = keys(chapter(f"### [{section.section}]"))
    assert list(documented) == list(section.model_fields)
    for name, field in section.model_fields.items():
        assert_default(documented[name], field.get_default(call_default_factory=True))


def test_every_key_of_the_model_and_its_default():
    documented = keys(chapter("### [model]"))
    assert list(documented) == list(ModelSection.model_fields)
    for name, field in TransformerConfig.model_fields.items():
        if not field.is_required() and name not in DERIVED and name != "family":
            assert_default(documented[name], field.default)
        else:
            assert not re.fullmatch(r"`[\d.e-]+`", documented[name])


def test_every_preset():
    text = chapter("### [model]")
    table = rows(text, "preset")
    sizes = ["n_layer", "n_head", "n_embd", "seq_len"]
    found = {name.strip("`"): (cells[0].strip("`"), *cells[1:]) for name, cells in table.items()}
    assert found == {
        name: (values.get("family", FAMILY), *(str(values[size]) for size in sizes))
        for name, values in PRESETS.items()
    }
    assert [name for name, values in PRESETS.items() if values.get("bias") is False] == [
        "char-tiny",
        "char",
    ], "the sentence about bias names these two"
    assert "the presets `char-tiny` and `char` set `false`" in text


def test_every_family_and_what_it_sets():
    table = rows(chapter("### [model]"), "family")
    assert [name.strip("`") for name in table] == list(FAMILIES)
    above: dict[str, Any] = {}
    for name, (_, written) in table.items():
        said = tomllib.loads("\n".join(re.findall(r"`(\w+ = [^`]+)`", written)))
        if "the same" in written or "those of `llama`" in written:
            said = {**above, **said}
        assert said == FAMILIES[name.strip("`")]
        above = said if name == "`llama`" else above


@pytest.mark.parametrize("section", DEFAULT_PARTS)
def test_a_sections_default_part(section):
    documented = keys(chapter(f"### [{section}]"))
    assert list(documented) == list(SECTION_KEYS[section])
    assert documented["name"] == f'`"{DEFAULT_PARTS[section]}"`'


def test_every_key_of_groups():
    text = chapter("### [optimizer]")
    own = keys(text)
    for name, field in Grouping.model_fields.items():
        assert_default(own[name], field.get_default(call_default_factory=True))
    assert list(keys(text, "key of a group")) == list(GroupConfig.model_fields)


def options(maker: Any, n_given: int) -> dict[str, Any]:
    parameters = list(inspect.signature(maker).parameters.values())[n_given:]
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {p.name: p.default for p in parameters if p.kind in kinds}


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_part_and_its_options(kind):
    section, n_given = KINDS[kind]
    text = chapter(f"### [{section}]")
    parts = load_registry().entries(kind)
    for part in parts:
        if part.provider.distribution != "tisslm":
            continue
        name, cls = part.entry.name, part.load()
        takes = options(cls.from_text if kind == "tokenizer" else cls, n_given)
        takes = {option: v for option, v in takes.items() if (name, option) not in PYTHON_ONLY}
        own = chapter(f"#### `{name}`", text)
        if not takes:
            assert "It has no options." in own
            continue
        if kind == "scheduler" and "max_steps" in takes:
            takes["max_steps"] = None
        documented = keys(own, "option")
        assert list(documented) == list(takes)
        for option, default in takes.items():
            assert_default(documented[option], default)


def test_no_part_is_documented_that_does_not_exist():
    registry = load_registry()
    known = {p.entry.name for kind in KINDS for p in registry.entries(kind)}
    assert set(re.findall(r"^#### `(\w+)`$", PAGE, flags=re.MULTILINE)) <= known


def test_every_spelling_of_other_trainers():
    same, elsewhere = chapter("## Other spellings").split("And keys that")
    elsewhere = elsewhere.partition("LitGPT's `[train]`")[0]
    found: dict[str, dict[str, str]] = {}
    for line in re.findall(r"^\| (\w+) \| `(\w+)` \| (.*) \|$", same, flags=re.MULTILINE):
        section, key, spellings = line
        for spelling in re.findall(r"`(\w+)`", spellings):
            found.setdefault(section, {})[spelling] = key
    assert found == {section: dict(table) for section, table in SPELLINGS.items()}

    moved: dict[str, dict[str, str]] = {}
    for line in re.findall(r"^\| (\w+) \| (`.*`) \| (.*) \|$", elsewhere, flags=re.MULTILINE):
        section, spellings, target = line
        for spelling in re.findall(r"`(\w+)`", spellings):
            moved.setdefault(section, {})[spelling] = target.strip("`")
    assert {s: set(table) for s, table in moved.items()} == {
        s: set(table) for s, table in ELSEWHERE.items()
    }
    for section, table in ELSEWHERE.items():
        for spelling, target in table.items():
            home = f"the key of `[{target.partition('.')[0]}]"
            assert moved[section][spelling] in (target, home), (section, spelling)


def test_every_value_and_every_key_without_counterpart():
    text = chapter("## Other spellings")
    found = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \| (.*) \|$", text, re.MULTILINE)
    expected = [
        (key, word, ", ".join(f"`{k} = {json.dumps(v)}`" for k, v in meaning.items()))
        for key, table in VALUES.items()
        for word, meaning in table.items()
    ]
    assert found == [(key, word, what or "nothing to do") for key, word, what in expected]
    advice = {
        key: cells[0]
        for first, cells in rows(text, "keys").items()
        for key in re.findall(r"`(\w+)`", first)
    }
    assert advice == dict(NO_COUNTERPART)


def test_every_flag_of_other_trainers():
    text = chapter("## Other spellings")
    documented = re.findall(r"^\| (\w+) \| `(\w+)` \| `(\w+) = \"(\w+)\"` \|$", text, re.MULTILINE)
    flags = [
        (section, flag, *meaning) for section in FLAGS for flag, meaning in FLAGS[section].items()
    ]
    assert documented == flags


def test_every_environment_variable():
    sources = [ROOT / "setup.py", *(ROOT / "tisslm").rglob("*.py")]
    sources += [p for p in (ROOT / "tisslm" / "_kernels").rglob("*") if p.suffix in {".pyx", ".h"}]
    pattern = r"TISSLM_(?!\w*__)[A-Z]+(?:_[A-Z]+)*"
    used = {name for p in sources for name in re.findall(pattern, p.read_text(encoding="utf-8"))}
    text = chapter("## Environment variables")
    assert set(re.findall(rf"^\| `({pattern})` \|", text, flags=re.MULTILINE)) == used


def test_every_exit_code():
    classes = [getattr(errors, name) for name in errors.__all__]
    codes = {0, 2, EXIT_CODE, INTERRUPTED, READER_LEFT, *(_exit_code(cls("")) for cls in classes)}
    assert {int(code) for code in rows(chapter("## Exit codes"), "code")} == codes


def test_every_norm_is_named():
    (row,) = [line for line in chapter("### [model]").splitlines() if line.startswith("| `norm` |")]
    assert [name for name in NORMS if f'`"{name}"`' not in row] == []
