"""A repository like Zenodo, with the answers that InvenioRDM's REST API documents for published records and their files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from web_servers import Reply, Request

ACCEPT = "application/vnd.inveniordm.v1+json"


@dataclass
class Version:
    """One version of a record, with its files."""

    files: Mapping[str, bytes]
    label: str = ""
    restricted: bool = False
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Checksums that are reported in place of the right ones, by file."""


@dataclass
class Repository:
    """``records`` by the number of all versions; versions have the numbers after it.

    ``leads``: whether the number of all versions redirects to the newest, as Zenodo does.
    """

    records: dict[int, list[Version]] = field(default_factory=dict)
    token: str = ""
    leads: bool = True
    prefix: str = "10.5281/zenodo."

    def __call__(self, request: Request) -> Reply:
        if request.headers.get("accept") != ACCEPT and not request.path.endswith("/content"):
            return Reply({"status": 406, "message": "not this form"}, 406)
        if request.path == "/api/records":
            return self._search(request)
        found = re.fullmatch(r"/api/records/([0-9]+)(/files(?:/(.+)/content)?)?", request.path)
        if found is None:
            return Reply({"status": 404, "message": "The requested URL was not found on the server."}, 404)
        number = int(found[1])
        if number in self.records and self.leads:
            newest = number + len(self.records[number])
            return Reply(b"", 302, {"Location": f"/api/records/{newest}{found[2] or ''}"})
        for parent, versions in self.records.items():
            if parent < number <= parent + len(versions):
                return self._of(request, parent, number, found[2], found[3])
        return Reply({"status": 404, "message": "The persistent identifier does not exist."}, 404)

    def _of(self, request: Request, parent: int, number: int, files: str | None, key: str | None) -> Reply:
        version = self.records[parent][number - parent - 1]
        knows = bool(self.token) and request.headers.get("authorization") == f"Bearer {self.token}"
        if files is None:
            return Reply(self.record(parent, number))
        if version.restricted and not knows:
            return Reply({"status": 403, "message": "Permission denied."}, 403)
        if key is None:
            entries = [self._entry(number, version, name) for name in version.files]
            return Reply({"enabled": True, "links": {}, "entries": entries, "default_preview": None, "order": []})
        content = version.files[key]
        return Reply(content, etag=f'"{hashlib.md5(content).hexdigest()}"')

    def record(self, parent: int, number: int) -> dict[str, Any]:
        """One version of a record as the API returns it."""
        version = self.records[parent][number - parent - 1]
        access = "restricted" if version.restricted else "public"
        return {
            "id": str(number),
            "created": "2026-11-27T10:52:23.945755+00:00",
            "updated": "2026-11-27T10:52:23.969244+00:00",
            "revision_id": 4,
            "is_published": True,
            "access": {"record": "public", "files": access, "embargo": {"active": False, "reason": None}},
            "files": {"enabled": True, "count": len(version.files)},
            "metadata": {"title": "A reef", "publication_date": "2026-11-27"}
            | ({"version": version.label} if version.label else {}),
            "parent": {
                "id": str(parent),
                "pids": {"doi": {"identifier": f"{self.prefix}{parent}", "provider": "datacite"}},
            },
            "pids": {"doi": {"identifier": f"{self.prefix}{number}", "provider": "datacite"}},
            "versions": {"index": number - parent, "is_latest": number == parent + len(self.records[parent])},
            "links": {"files": "https://elsewhere.example/files"},
        }

    def _entry(self, number: int, version: Version, name: str) -> dict[str, Any]:
        content = version.files[name]
        checksum = version.checksums.get(name, f"md5:{hashlib.md5(content).hexdigest()}")
        return {
            "key": name,
            "size": len(content),
            "checksum": checksum,
            "mimetype": "application/octet-stream",
            "status": "completed",
            "links": {"content": f"https://elsewhere.example/{number}/{name}"},
        }

    def _search(self, request: Request) -> Reply:
        query, newest_only = request.query["q"], request.query.get("allversions") == "false"
        hits = []
        for parent, versions in self.records.items():
            for number in range(parent + len(versions), parent, -1):
                record = self.record(parent, number)
                terms = (
                    f'parent.id:"{parent}"',
                    f'pids.doi.identifier:"{record["pids"]["doi"]["identifier"]}"',
                    f'parent.pids.doi.identifier:"{record["parent"]["pids"]["doi"]["identifier"]}"',
                )
                asked = query.split(" OR ")
                if any(term in asked for term in terms) and (record["versions"]["is_latest"] or not newest_only):
                    hits.append(record)
        return Reply({"hits": {"hits": hits[: int(request.query["size"])], "total": len(hits)}, "links": {}})
