"""``spec.metadata``: which identifiers are valid, the form in which they are stored, and the fields of an object."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pelagos.api import crds, kinds
from pelagos.api.dataset import DatasetSpec
from pelagos.decisions.dataset import identity
from pelagos_contract import identifiers
from pelagos_contract.metadata import Area, Metadata, Party, Related


@pytest.mark.parametrize(
    ("parse", "written", "kept"),
    [
        (identifiers.orcid, "https://orcid.org/0000-0002-1825-0097", "0000-0002-1825-0097"),
        (identifiers.orcid, "0000-0002-1694-233X", "0000-0002-1694-233X"),
        (identifiers.ror, "05dxps055", "https://ror.org/05dxps055"),
        (identifiers.doi, "https://doi.org/10.5281/Zenodo.12(3)", "10.5281/Zenodo.12(3)"),
        (identifiers.license_id, "cc-by-4.0", "CC-BY-4.0"),
        (identifiers.language, "PT-br", "pt-BR"),
        (identifiers.language, "zh-hant", "zh-Hant"),
        (identifiers.day, "2024-02-29", "2024-02-29"),
    ],
)
def test_identifiers_are_kept_in_one_form(parse: Any, written: str, kept: str) -> None:
    assert parse(written) == kept
    assert parse(kept) == kept


@pytest.mark.parametrize(
    ("parse", "written", "says"),
    [
        (identifiers.orcid, "0000-0002-1825-0098", "its check digit would be 7"),
        (identifiers.orcid, "0000-0002-1852-0097", "check digit"),  # two digits swapped
        (identifiers.ror, "05dxps056", "would be 55"),
        (identifiers.ror, "https://ror.org/05dxsp055", "would be"),
        (identifiers.doi, "zenodo.1234", "write a DOI"),
        (identifiers.license_id, "CC BY 4.0", "for example CC-BY-4.0"),
        (identifiers.license_id, "MIT OR Apache-2.0", "SPDX"),
        (identifiers.license_id, "LicenseRef-ours", "SPDX"),
        (identifiers.license_id, "", "SPDX"),
        (identifiers.language, "english", "BCP 47"),
        (identifiers.day, "2026-02-30", "not a date"),
    ],
)
def test_what_is_no_identifier_is_refused_with_what_is_allowed(parse: Any, written: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(written)


@pytest.mark.parametrize(
    ("identifier", "kind", "url"),
    [
        ("10.5281/zenodo.1", "DOI", "https://doi.org/10.5281/zenodo.1"),
        ("https://doi.org/10.5281/zenodo.1", "DOI", "https://doi.org/10.5281/zenodo.1"),
        ("arXiv:2101.00001", "arXiv", "https://arxiv.org/abs/2101.00001"),
        ("https://hdl.handle.net/20.500.12085/x", "Handle", "https://hdl.handle.net/20.500.12085/x"),
        ("https://example.org/a", "URL", "https://example.org/a"),
        ("urn:uuid:4b3b", "URN", None),
        ("my-own-7", "Other", None),
    ],
)
def test_the_kind_of_an_identifier_follows_from_how_it_is_written(identifier: str, kind: str, url: str | None) -> None:
    assert (identifiers.kind_of(identifier), identifiers.url(identifier)) == (kind, url)


@pytest.mark.parametrize(
    ("model", "fields", "says"),
    [
        (Party, {"name": "IEO", "kind": "Organization", "orcid": "0000-0002-1825-0097"}, "organisation has ror"),
        (Party, {"name": "A, B", "ror": "05dxps055"}, "affiliations"),
        (Party, {"name": "two\nlines"}, "one line"),
        (Area, {"south": "91", "west": "0"}, "degrees"),
        (Area, {"south": "1", "west": "0", "north": "2"}, "go together"),
        (Area, {"south": "2", "west": "0", "north": "1", "east": "1"}, "swap"),
        (Area, {"south": "2", "west": "0", "minDepth": "9", "maxDepth": "1"}, "downward"),
        (Metadata, {"period": {"start": "2026-05", "end": "2026-04-30"}}, "end is before start"),
        (Metadata, {"heading": "x"}, "Extra inputs"),
    ],
)
def test_what_contradicts_itself_is_refused(model: Any, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        model.model_validate(fields)


def test_a_period_may_end_in_the_month_or_year_that_it_begins_in() -> None:
    for end in ("2026", "2026-05", "2026-05-14"):
        Metadata.model_validate({"period": {"start": "2026-05-14", "end": end}})


def test_a_doi_is_told_without_its_resolver() -> None:
    related = Related(identifier="https://doi.org/10.1000/182", relation="IsDescribedBy")

    assert (related.type, related.plain) == ("DOI", "10.1000/182")


def test_the_source_is_named_as_what_it_is_derived_from_once() -> None:
    said = Metadata(title="Fish").derived("10.5281/zenodo.7")

    (related,) = said.related
    assert (related.identifier, related.relation) == ("10.5281/zenodo.7", "IsDerivedFrom")
    assert said.derived("10.5281/zenodo.7") == said.derived(None) == said.derived("not a DOI") == said
    other = Metadata.model_validate(
        {"related": [{"identifier": "https://doi.org/10.5281/zenodo.7", "relation": "IsPartOf"}]}
    )
    assert other.derived("10.5281/zenodo.7") == other


def test_metadata_decides_nothing_of_a_version() -> None:
    bare: dict[str, Any] = {"source": {"volume": {"path": "a"}}, "task": "Detection"}
    described = DatasetSpec.model_validate(bare | {"metadata": {"title": "Fish", "license": "cc0-1.0"}})

    assert identity.recipe(described) == identity.recipe(DatasetSpec.model_validate(bare))
    assert "metadata" not in identity.request(described)


def test_the_api_server_writes_no_defaults_into_metadata() -> None:
    schema = crds.render(kinds.DATASET)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    metadata = schema["properties"]["spec"]["properties"]["metadata"]

    assert "default" not in metadata
    assert "'default'" not in repr(metadata)
    assert Metadata(title="Fish").written() == {"title": "Fish"}
