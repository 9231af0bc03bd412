"""WordNet's files: words without their marks, definitions without their examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from tisslm.datasets.examples import read_examples
from tisslm.datasets.sources import BadRecords, ReadOptions
from tisslm.errors import DataError

LICENCE = "  1 This software and database is being provided to you\n"
NOUN = (
    '00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which "is" perceived  \n'
    '00001930 03 n 02 physical_entity 0 a 1 000 | an entity (as in "it") that exists  \n'
)
ADJ = (
    '00020103 00 s 02 outback(a) 0 elect(ip) 0 000 | sparsely populated; "an outback"; "a "\n'
    '00020104 00 s 01 again 0 000 | an entity (as in "it") that exists\n'
)
VERB = '00020105 00 v 01 recite 0 000 | render verbally, "recite a poem"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("noun", NOUN), ("verb", VERB), ("adj", ADJ), ("adv", "")):
        (tmp_path / f"data.{name}").write_text(LICENCE + text, encoding="utf-8")
    return tmp_path


def test_sets_of_synonyms_are_pairs_of_words_and_definition(folder: Path) -> None:
    assert [example.texts for example in read_examples(folder)] == [
        ("entity", "that which"),
        ("physical entity, a", 'an entity (as in "it") that exists'),
        ("recite", "render verbally"),
        ("outback, elect", "sparsely populated"),
    ]


@pytest.mark.parametrize(
    "line", ["nothing", "1 2 n zz a 0 | b", "1 2 n 02 a 0 | b", "1 2 n 01 a 0 |  ", "1 2 n 00 | b"]
)
def test_a_line_of_another_form_is_refused_with_its_place(folder: Path, line: str) -> None:
    path = folder / "data.verb"
    path.write_text(LICENCE + line + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        list(read_examples(folder))
    assert str(caught.value) == (
        f"{path}, line 2: expected a set of synonyms, numbers and words with a definition after "
        f"' | ', got {line.strip()!r}; give WordNet's own files, or remove the line"
    )
    bad = BadRecords("skip")
    with pytest.warns(UserWarning, match="1 bad record left out"):
        assert len(list(read_examples(folder, options=ReadOptions(bad=bad)))) == 3


def test_a_file_that_is_missing_is_named(folder: Path) -> None:
    (folder / "data.adv").unlink()
    with pytest.raises(DataError, match=r"data.adv: no such file"):
        list(read_examples(folder, format="wordnet"))
