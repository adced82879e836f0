"""A table in the source that says which taxa classes are: parsed in the sandbox, and used as far as it can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_sources import photo, text, tree_of
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.taxonomy.table import Table

TABLE = """label,AphiaID,ScientificName,Rank,Kingdom,Family,Genus
cod,126436,Gadus morhua,Species,Animalia,Gadidae,Gadus
,126437,Melanogrammus aeglefinus,,Animalia,Gadidae,
,125469,Gadidae,Family,Animalia,Gadidae,
eel,126281,,,,,
"""


def table(root: Path, content: str = TABLE, path: str = "taxa.csv") -> Table:
    photo(root / "a.png")
    text(root / path, content)
    return Table(tree_of(root), path)


def test_rows_are_taxa_with_what_is_above_them(tmp_path: Path) -> None:
    found = table(tmp_path).answers(["cod", "melanogrammus  aeglefinus", "eel"], [125469])

    assert {name: match.aphia_id for name, match in found.matches.items()} == {
        "cod": 126436,
        "melanogrammus  aeglefinus": 126437,
        "eel": 126281,
    }
    cod = found.placed[126436]
    assert (cod.taxon.name, cod.taxon.rank) == ("Gadus morhua", "Species")
    # A taxon gets its AphiaID only if the table has a row for it.
    assert [(taxon.rank, taxon.name, taxon.aphia_id) for taxon in cod.above] == [
        ("Kingdom", "Animalia", None),
        ("Family", "Gadidae", 125469),
        ("Genus", "Gadus", None),
    ]
    assert (found.placed[126437].taxon.rank, found.placed[125469].taxon.rank) == ("Species", "Family")
    assert found.placed[126281].taxon.name == "eel"
    assert found.asked_at is None


def test_what_is_like_a_name_is_suggested(tmp_path: Path) -> None:
    match = table(tmp_path).answers(["Gadus morua"], []).matches["Gadus morua"]

    assert (match.aphia_id, match.why) == (None, "it is not in the table")
    assert match.suggestions == ["Gadus morhua (126436, Species)"]


def test_semicolons_and_other_spellings_of_the_columns_are_read(tmp_path: Path) -> None:
    found = table(tmp_path, "\ufeffaphiaid;scientificname\n126436;Gadus morhua\n").answers(["Gadus morhua"], [])

    assert found.matches["Gadus morhua"].aphia_id == 126436


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("label,id\ncod,126436\n", "has no column AphiaID"),
        ("label,AphiaID\ncod,none\n", "line 2: AphiaID is no number from 1"),
        ("label,AphiaID\ncod,0\n", "line 2: AphiaID is no number from 1"),
        ("label,AphiaID\ncod,99999999999999999999\n", "line 2: AphiaID is no number from 1"),
        ("label,AphiaID\n,126436\n", "neither label nor ScientificName"),
        ("label,AphiaID\ncod,126436\ncod,126437\n", "lines 2 and 3 have one label for two taxa"),
        ('label,AphiaID\n"cod\n', "quotes"),
        (f"label,AphiaID\n{'c' * 400},1\n", "label is no name"),
        ("label,AphiaID\nc\x1b[31m,1\n", "label is no name"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        table(tmp_path, content)

    assert caught.value.failure.reason == Reason.FORMAT_INVALID


def test_a_table_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    table(tmp_path)

    with pytest.raises(RefusedError, match=r"taxas\.csv is no file of the source \(nearest is taxa\.csv\)"):
        Table(tree_of(tmp_path), "taxas.csv")
    with pytest.raises(RefusedError, match="is no file of the source"):
        Table(tree_of(tmp_path), "../taxa.csv")
