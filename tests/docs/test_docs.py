"""The pages hold together: links lead somewhere, and what they name exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from architecture import figures

from tisslm.registry import load_registry
from tisslm.registry.hookspecs import KINDS

ROOT = Path(__file__).parents[2]
TOPS = ("tisslm", "plugins", "recipes", "examples", "docs", "benchmarks", "tests", ".ci")
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "plugins/*/*.md", "benchmarks/*.md", "examples/*.md")
    for page in ROOT.glob(pattern)
)
every_page = pytest.mark.parametrize("page", PAGES)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", read(page), flags=re.DOTALL | re.MULTILINE)


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as renderers make them."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every table row, without headings' rules."""
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def resolve(dotted: str) -> object:
    """Import the module that a dotted name begins with, and look the rest up."""
    parts = dotted.split(".")
    found: object = import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            import_module(".".join(parts[:i]))
        found = getattr(found, part)
    return found


def test_the_pages_are_found():
    assert {"README.md", "ARCHITECTURE.md", "docs/README.md", "docs/configuration.md"} <= set(PAGES)


@every_page
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), link


@every_page
def test_every_file_that_is_named_exists(page):
    tops = "|".join(map(re.escape, TOPS))
    for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", read(page)):
        assert (ROOT / path).exists(), path


@every_page
def test_every_dotted_name_exists(page):
    for dotted in re.findall(r"`(tisslm(?:\.[A-Za-z_]\w*)+)", prose(page)):
        try:
            resolve(dotted)
        except (ImportError, AttributeError):
            pytest.fail(f"{page} names {dotted}, which does not exist")


@every_page
def test_every_name_that_a_program_imports_exists(page):
    for program in re.findall(r"^```python\n(.*?)^```", read(page), flags=re.DOTALL | re.MULTILINE):
        lines = re.findall(r"^ *from (tisslm[\w.]*) import (.+)$", program, flags=re.MULTILINE)
        for module, names in lines:
            for name in re.findall(r"(\w+)(?: as \w+)?(?:,|$)", names.partition("  #")[0].strip()):
                try:
                    resolve(f"{module}.{name}")
                except (ImportError, AttributeError):
                    pytest.fail(f"{page} imports {name} of {module}, which has none")


def test_every_page_of_docs_is_in_its_index():
    index = read("docs/README.md")
    for page in PAGES:
        path = page.removeprefix("docs/")
        if path != page and path != "README.md" and not path.startswith("decisions/0"):
            assert f"]({path})" in index, path


def test_every_top_level_folder_is_in_the_readmes_tree():
    ignored = {line.strip("/") for line in read(".gitignore").splitlines()}
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir()
        and path.name not in ignored
        and not path.name.endswith(".egg-info")
        and (path.name in TOPS or not path.name.startswith("."))
    }
    (tree,) = re.findall(r"## What is where\n\n```\n(.*?)```", read("README.md"), flags=re.DOTALL)
    named = re.findall(r"^(\S+)/ +\S", tree, flags=re.MULTILINE)
    assert len(named) == len(tree.splitlines())
    assert set(named) == folders


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_and_every_built_in_name_is_documented(kind):
    assert f"`def {KINDS[kind].hook}(" in read("docs/plugin-hooks.md")
    parts = load_registry().entries(kind)
    names = [p.entry.name for p in parts if p.provider.distribution == "tisslm"]
    assert names
    for name in names:
        assert f"`{name}`" in read("docs/configuration.md"), name
        assert f"`{name}`" in read("CHANGELOG.md") or kind == "communicator", name


def test_every_make_target_is_documented_and_no_other():
    (targets,) = re.findall(r"^\.PHONY: (.*)$", read("Makefile"), flags=re.MULTILINE)
    rows = table_rows(read("CONTRIBUTING.md"))
    assert {row[0] for row in rows if row[0].startswith("`make ")} == {
        f"`make {target}`" for target in targets.split()
    }
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z]+)", read(page), flags=re.MULTILINE):
            assert target in targets.split(), (page, target)


def test_every_make_target_and_what_it_needs_has_one_rule():
    text = read("Makefile")
    rules = re.findall(r"^([\w$()/-]+):(?: +(.*))?$", text, flags=re.MULTILINE)
    names = [name for name, _ in rules]
    (targets,) = re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    needed = {word for _, needs in rules for word in needs.split() if not word.endswith("SOURCES)")}
    assert sorted(names) == sorted({*targets.split(), *needed})


def picture() -> list[list[str]]:
    """Return the packages of each floor in ARCHITECTURE's picture, the lowest first."""
    text = read("ARCHITECTURE.md").partition("## Floors")[2]
    block = re.search(r"^```\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)[1]
    lines = [line.split() for line in block.splitlines()]
    assert [int(line[0]) for line in lines] == [*range(len(lines), 0, -1)]
    return [line[1:] for line in reversed(lines)]


def test_the_picture_shows_the_floors_that_the_linter_keeps():
    assert picture() == figures.floors()


def test_every_import_leads_down_in_the_picture():
    assert len(figures.crossings()) > 50
    assert figures.sideways_or_up(picture(), figures.crossings()) == []


def test_every_package_has_one_line():
    rows = table_rows(read("ARCHITECTURE.md").partition("## Walls")[0])[1:]
    named = [row[0].strip("`") for row in rows]
    assert named == [name for floor in reversed(picture()) for name in floor]


def test_the_architecture_can_be_read_in_one_sitting():
    assert len(read("ARCHITECTURE.md").splitlines()) <= 350


def test_every_wall_names_files_that_hold_what_it_says():
    """Rows that name a file of kernels: what they keep is in it."""
    text = read("ARCHITECTURE.md").partition("## Walls")[2].partition("\n## ")[0]
    words = {"scipy.linalg.cython_blas": "scipy.linalg.cython_blas", "omp.h": "omp.h"}
    rows = {row[0].strip("`"): row[1] for row in table_rows(text)[1:]}
    for what, word in words.items():
        for path in re.findall(r"`(tisslm/[\w./]+)`", rows[what]):
            assert word in read(path), path


#: Most files that a task may take, in the order of the tables.
TASKS = {"optimizer": 9, "optimizer, a package": 9, "norm": 7, "file": 2, "communicator": 2}


def test_every_file_of_the_five_tasks_exists():
    text = read("CONTRIBUTING.md").partition("## Five tasks, file by file")[2]
    text = text.partition("\n## ")[0]
    tables = [table_rows(table)[1:] for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    assert len(tables) == len(TASKS)
    for task, rows in zip(TASKS, tables, strict=True):
        assert 0 < len(rows) <= TASKS[task], task
        for path, what, forgotten in rows:
            file = path.strip("`").replace("<name>.py", "__init__.py")
            assert (ROOT / file).is_file(), path
            assert what, path
            for test in re.findall(r"`(tests/[\w./]+)`", forgotten):
                assert (ROOT / test).is_file(), test
