"""The metadata of a dataset with every field of spec.metadata set."""

from __future__ import annotations

from typing import Any

FULL: dict[str, Any] = {
    "title": "Fish of the bay",
    "description": 'Boxes of "cod" & <eel>.\nTwo lines, señor.',
    "creators": [
        {
            "name": "Curie, Marie",
            "orcid": "0000-0002-1825-0097",
            "affiliations": [{"name": "Caltech", "ror": "https://ror.org/05dxps055"}],
        },
        {"name": "Marine Lab", "kind": "Organization", "ror": "https://ror.org/05dxps055"},
    ],
    "contributors": [
        {"name": "Roe, Jo", "role": "DataCollector"},
        {"name": "Marine Lab", "kind": "Organization", "role": "RightsHolder"},
    ],
    "contact": {"name": "Roe, Jo", "email": "jo@example.org", "url": "https://example.org/jo"},
    "publisher": {"name": "Zenodo", "kind": "Organization"},
    "license": "CC-BY-4.0",
    "access": "Open",
    "issued": "2026-05",
    "language": "en",
    "keywords": ["fish", "underwater images"],
    "subjects": [
        {"term": "Fish", "uri": "http://vocab.nerc.ac.uk/collection/S25/current/BE006569/", "scheme": "NERC S25"}
    ],
    "identifier": "10.5281/zenodo.1",
    "funding": [
        {
            "funder": "European Commission",
            "ror": "https://ror.org/00k4n6c32",
            "award": "101058625",
            "title": "iMagine",
            "url": "https://cordis.europa.eu/project/id/101058625",
        }
    ],
    "related": [
        {"identifier": "10.1000/182", "relation": "IsDescribedBy", "kind": "JournalArticle"},
        {"identifier": "https://example.org/raw", "relation": "IsDerivedFrom", "kind": "Dataset"},
        {"identifier": "station-book-7", "relation": "Cites"},
    ],
    "coverage": [
        {
            "place": "Bay of Malaga",
            "uri": "https://marineregions.org/mrgid/3366",
            "south": "36.5",
            "west": "-4.5",
            "north": "36.8",
            "east": "-4.2",
            "minDepth": "5",
            "maxDepth": "20.5",
        }
    ],
    "period": {"start": "2025-01", "end": "2025-06-30"},
    "taxa": [{"name": "Cod", "rank": "Species", "aphiaId": 126436}],
    "acquisition": {
        "project": "Bay survey",
        "platform": "RV Nautilus",
        "sensor": "Camera 5",
        "event": "Dive 3",
        "context": "Monitoring",
    },
    "methods": "Taken by divers.\nAnnotated twice.",
}
