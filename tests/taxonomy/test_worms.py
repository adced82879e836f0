"""The World Register of Marine Species: what it is asked, which answers are believed, and what happens without an answer.

A fake server answers (worms_server). The clock is the test's own; answers are kept in a file as in a store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.metadata import Taxon
from pelagos_pipelines.fetching import Client, Patience, Policy
from pelagos_pipelines.taxonomy import worms
from pelagos_pipelines.taxonomy.answers import FRESH, Kept
from pelagos_pipelines.taxonomy.taxa import Answers
from web_servers import Fault, Server, serving
from worms_server import BASE, Entry, Worms

PATIENCE = Patience(connect=2, read=0.3, total=20, tries=2, first_pause=0.01, longest_pause=0.02, longest=0.05)
COD, HADDOCK, GADIDAE = 126436, 126437, 125469


@dataclass
class Asking:
    """The service, its fake server with the requests, and the file with the kept answers."""

    service: Worms
    server: Server
    file: Path
    now: float = 1_000_000_000.0

    def ask(self, *names: str, ids: tuple[int, ...] = ()) -> Answers:
        url = self.server.url + BASE
        kept = Kept(self.file, url, lambda: self.now)
        with Client(Policy.read(self.server.variables), worms.FIELD, PATIENCE) as client:
            try:
                return worms.Worms(client, url, kept).answers(names, ids)
            finally:
                kept.write()

    def refusal(self, *names: str, ids: tuple[int, ...] = ()) -> RefusedError:
        with pytest.raises(RefusedError) as caught:
            self.ask(*names, ids=ids)
        return caught.value


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    monkeypatch.setattr(worms, "PAUSE", 0.0)
    service = Worms()
    with serving(service) as server:
        yield Asking(service, server, tmp_path / "taxa.json")


class TestNames:
    def test_a_name_is_its_taxon_with_all_above_it(self, asking: Asking) -> None:
        found = asking.ask("Gadus morhua", "gadus morhua Linnaeus, 1758")

        assert {match.aphia_id for match in found.matches.values()} == {COD}
        assert found.placed[COD].taxon == Taxon(name="Gadus morhua", rank="Species", aphia_id=COD)
        assert [taxon.name for taxon in found.placed[COD].above][-3:] == ["Gadiformes", "Gadidae", "Gadus"]
        assert found.placed[COD].given is None
        assert found.warnings == []

    def test_what_is_like_a_name_is_suggested_and_never_taken(self, asking: Asking) -> None:
        found = asking.ask("Gadus morua")

        assert found.matches["Gadus morua"].aphia_id is None
        assert found.matches["Gadus morua"].suggestions == ["Gadus morhua (126436, Species, Animalia)"]
        assert found.placed == {}

    def test_a_genus_is_not_taken_for_a_species_whatever_the_service_says(self, asking: Asking) -> None:
        asking.service.answers = {"MatchNames": [[asking.service.record(125732)]]}

        assert asking.ask("Gadus morua").matches["Gadus morua"].aphia_id is None

    def test_spaces_of_another_kind_in_the_register_are_spaces(self, asking: Asking) -> None:
        asking.service.entries[COD] = replace(asking.service.entries[COD], name="Gadus\u00a0morhua ")
        asking.service.answers = {"MatchNames": [[asking.service.record(COD)]]}

        assert asking.ask("Gadus morhua").placed[COD].taxon.name == "Gadus morhua"

    def test_a_name_of_two_taxa_is_none_of_them(self, asking: Asking) -> None:
        match = asking.ask("Ficta ambigua").matches["Ficta ambigua"]

        assert (match.aphia_id, match.why) == (None, "2 taxa are called so")
        assert match.suggestions == [
            "Ficta ambigua (1000001, Species, Animalia)",
            "Ficta ambigua (1000002, Species, Plantae)",
        ]

    def test_a_name_that_nobody_knows_is_said_to_be_none(self, asking: Asking) -> None:
        found = asking.ask("detritus", "Gadus morhua")

        assert (found.matches["detritus"].aphia_id, found.matches["detritus"].why) == (None, "no taxon is called so")

    def test_of_names_that_are_not_accepted_the_accepted_one_is_taken_and_both_are_told(self, asking: Asking) -> None:
        found = asking.ask("Coryphaena immaculata", ids=(302815,))

        placed = found.placed[302815]
        assert (placed.taxon.name, placed.taxon.aphia_id, placed.given) == ("Coryphaena hippurus", 126846, 302815)

    def test_ids_that_are_not_there_or_were_withdrawn_are_no_taxa(self, asking: Asking) -> None:
        assert asking.ask(ids=(7, 1000003, COD)).placed.keys() == {COD}

    def test_names_that_lead_in_a_circle_are_refused(self, asking: Asking) -> None:
        asking.service.entries |= {
            11: Entry("A", "Genus", 2, "unaccepted", 12),
            12: Entry("B", "Genus", 2, "unaccepted", 11),
        }

        assert asking.refusal(ids=(11,)).failure.reason == Reason.SOURCE_INVALID

    def test_the_ranks_of_plants_have_the_names_that_those_of_animals_have(self, asking: Asking) -> None:
        assert asking.ask(ids=(1000004,)).placed[1000004].taxon.rank == "Phylum"


class TestRequests:
    def test_many_names_are_asked_for_50_at_once_and_no_address_is_too_long(self, asking: Asking) -> None:
        asking.ask(*(f"Nomen {number}" for number in range(120)))
        assert asking.server.count("GET", "MatchNames") == 3

        asking.ask(*(f"{'ж' * 190} {number}" for number in range(10)))
        assert asking.server.count("GET", "MatchNames") == 7

    def test_who_asks_says_so_and_pauses(self, asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses = list[float]()
        monkeypatch.setattr(worms, "PAUSE", 0.7)
        monkeypatch.setattr(
            "pelagos_pipelines.fetching.patience.Deadline.pause", lambda _, pause, doing: pauses.append(pause)
        )

        asking.ask("Gadus morhua", "Melanogrammus aeglefinus")

        assert {request.headers["user-agent"] for request in asking.server.seen} == {"pelagos"}
        assert pauses == [0.7, 0.7, 0.7]  # between four requests

    def test_what_was_said_is_not_asked_again_for_30_days(self, asking: Asking) -> None:
        first = asking.ask("Gadus morhua", "detritus", ids=(7,))
        asked = len(asking.server.seen)

        asking.now += FRESH - 1
        again = asking.ask("Gadus morhua", "detritus", ids=(7,))
        assert len(asking.server.seen) == asked
        assert (again, again.asked_at) == (first, 1_000_000_000.0)

        asking.now += 2
        assert asking.ask("Gadus morhua").asked_at == asking.now
        assert len(asking.server.seen) == asked + 3

    def test_an_address_that_the_platform_does_not_allow_is_refused_with_the_line_to_add(self, asking: Asking) -> None:
        policy = Policy.read(
            {"PELAGOS_SOURCE_HOSTS_OF": "the ConfigMap pelagos-tenant-reef of the operator's namespace"}
        )
        kept = Kept(asking.file, asking.server.url)
        with Client(policy, worms.FIELD, PATIENCE) as client, pytest.raises(RefusedError) as caught:
            worms.Worms(client, asking.server.url, kept).answers(["Gadus morhua"], [])

        failure = caught.value.failure
        assert (failure.reason, failure.field) == (Reason.SOURCE_NOT_ALLOWED, "labels.taxonomy.url")
        assert (
            f'pelagos-tenant-reef of the operator\'s namespace: sourceHosts: "{asking.server.url}"' in failure.message
        )
        assert asking.server.seen == []


FAULTS = {
    "it is broken": Fault("answer", 500),
    "it is busy": Fault("answer", 429, retry_after="0"),
    "it takes too long": Fault("slow", seconds=0.8),
    "the answer is cut": Fault("cut"),
    "it hangs up": Fault("drop"),
    "it refuses us": Fault("answer", 403),
}
ODD: dict[str, dict[str, Any]] = {
    "no JSON": {"MatchNames": b'[[{"AphiaID": 126'},
    "a page": {"MatchNames": b"<html>maintenance</html>"},
    "a text for a number": {"MatchNames": [[{"AphiaID": "126436", "scientificname": "Gadus morhua"}]]},
    "a number that is none of its": {"MatchNames": [[{"AphiaID": -1, "scientificname": "Gadus morhua"}]]},
    "fewer lists than names": {"MatchNames": []},
    "more lists than names": {"MatchNames": [[], []]},
    "a name with control characters": {"MatchNames": [[{"AphiaID": 5, "scientificname": "\x1b[31mGadus"}]]},
    "thousands of records": {"MatchNames": [[{"AphiaID": 5, "scientificname": "A"}] * 5000]},
    "a record that nobody asked for": {"ByAphiaIDs": [Worms().record(HADDOCK)]},
    "a taxon instead of a list": {"ByAphiaIDs": Worms().record(COD)},
    "the classification of another": {"Classification": Worms().classification(HADDOCK)},
    "a taxon in another kingdom": {
        "Classification": {
            "AphiaID": 3,
            "rank": "Kingdom",
            "scientificname": "Plantae",
            "child": {"AphiaID": COD, "rank": "Species", "scientificname": "Gadus morhua", "child": None},
        }
    },
    "a classification without an end": {
        "Classification": json.loads('{"AphiaID":1,"scientificname":"A","child":' * 200 + "1" + "}" * 200)
    },
}


class TestOutages:
    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
    def test_a_service_that_is_away_is_waited_for(self, asking: Asking, fault: Fault) -> None:
        asking.server.fail(fault)

        failure = asking.refusal("Gadus morhua").failure

        assert (failure.reason, failure.reason.state) == (Reason.TAXONOMY_UNAVAILABLE, "waiting")
        assert "has said nothing yet of 1 names: Gadus morhua" in failure.message
        assert not asking.file.exists()

    @pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
    def test_an_answer_that_is_none_is_not_believed_and_not_kept(self, asking: Asking, odd: dict[str, Any]) -> None:
        asking.service.answers = odd

        assert asking.refusal("Gadus morhua").failure.reason == Reason.TAXONOMY_UNAVAILABLE

        asking.service.answers = {}
        assert asking.ask("Gadus morhua").placed.keys() == {COD}

    @pytest.mark.parametrize("fault", [FAULTS["it is broken"], FAULTS["the answer is cut"]], ids=["broken", "cut"])
    def test_what_it_said_long_ago_counts_while_it_is_away_and_that_is_told(self, asking: Asking, fault: Fault) -> None:
        first = asking.ask("Gadus morhua")
        asking.now += FRESH + 1
        asking.server.fail(fault)

        later = asking.ask("Gadus morhua")

        assert (later.placed, later.asked_at) == (first.placed, 1_000_000_000.0)
        assert "does not answer" in later.warnings[0]
        assert "3 answers older than 30 days were used" in later.warnings[0]

    def test_what_one_try_was_told_the_next_one_does_not_ask_for(self, asking: Asking) -> None:
        asking.server.fail(FAULTS["it is broken"], part="Classification")
        asking.refusal("Gadus morhua")
        asking.server.heal()
        asking.server.seen.clear()

        asking.ask("Gadus morhua")

        assert [request.path.rpartition("/")[0] for request in asking.server.seen] == [
            f"{BASE}/AphiaClassificationByAphiaID"
        ]

    def test_a_moment_of_weakness_is_none(self, asking: Asking) -> None:
        asking.server.fail(FAULTS["it is busy"], times=1)

        assert asking.ask("Gadus morhua").warnings == []


class TestMemory:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b"{" * 100_000,
            b'{"schemaVersion": 2, "url": "x", "kinds": {}}',
            b'{"schemaVersion": 1, "url": "x", "kinds": {"names": {"a": {"at": "now"}}}}',
        ],
    )
    def test_a_file_that_is_none_is_no_obstacle(self, asking: Asking, content: bytes) -> None:
        asking.file.write_bytes(content)

        assert asking.ask("Gadus morhua").placed.keys() == {COD}

    def test_answers_that_somebody_wrote_into_it_are_asked_for_again_unless_they_are_answers(
        self, asking: Asking
    ) -> None:
        asking.ask("Gadus morhua")
        kept = json.loads(asking.file.read_bytes())
        kept["kinds"]["records"][str(COD)]["answer"]["AphiaID"] = "126436"
        kept["kinds"]["names"]["Gadus morhua"]["at"] = 9e9  # by a clock in the future
        asking.file.write_text(json.dumps(kept))
        asking.server.seen.clear()

        assert asking.ask("Gadus morhua").placed.keys() == {COD}
        assert len(asking.server.seen) == 2

    def test_the_answers_of_another_address_are_none_of_this_one(self, asking: Asking) -> None:
        asking.ask("Gadus morhua")
        kept = json.loads(asking.file.read_bytes())
        asking.file.write_text(json.dumps(kept | {"url": "https://mirror.example"}))
        asked = len(asking.server.seen)

        asking.ask("Gadus morhua")

        assert len(asking.server.seen) == 2 * asked

    def test_the_oldest_are_forgotten_when_there_are_too_many(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pelagos_pipelines.taxonomy.answers.MOST", 2)
        now = [0.0]
        kept = Kept(tmp_path / "taxa.json", "u", lambda: now[0])
        for name in "abc":
            now[0] += 1
            kept.put("names", name, [])
        kept.write()

        again = Kept(tmp_path / "taxa.json", "u", lambda: now[0])
        assert [again.get("names", name) for name in "abc"] == [None, (2.0, []), (3.0, [])]

    def test_a_full_disk_is_no_obstacle(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        kept = Kept(tmp_path / "file" / "taxa.json", "u")
        kept.put("names", "a", [])
        kept.write()
