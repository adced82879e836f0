"""What classes become by a register of names: taxa, or classes of a higher rank; uncertain matches are not used.

The register is a table in this test; collections are made by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import ValidationError

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.labels import Labels
from pelagos_contract.metadata import Taxon
from pelagos_contract.tasks import Task
from pelagos_contract.taxonomy import Taxonomy
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.preparation import labelling
from pelagos_pipelines.taxonomy import naming
from pelagos_pipelines.taxonomy.taxa import Answers, Match, Placed

ANIMALS = Taxon(name="Animalia", rank="Kingdom", aphia_id=2)
FISH = Taxon(name="Actinopterygii", rank="Class", aphia_id=10194)
GADIDAE = Taxon(name="Gadidae", rank="Family", aphia_id=125469)
GADUS = Taxon(name="Gadus", rank="Genus", aphia_id=125732)
COD = Taxon(name="Gadus morhua", rank="Species", aphia_id=126436)
HADDOCK = Taxon(name="Melanogrammus aeglefinus", rank="Species", aphia_id=126437)
FLATFISH = Taxon(name="Pleuronectidae", rank="Family", aphia_id=125579)
DAB = Taxon(name="Limanda limanda", rank="Species", aphia_id=127139)
LINES = ((ANIMALS, FISH, GADIDAE, GADUS, COD), (ANIMALS, FISH, GADIDAE, HADDOCK), (ANIMALS, FISH, FLATFISH, DAB))


class Known:
    """A register that knows six taxa and their ancestors."""

    source = "the register"

    def answers(self, names: Iterable[str], ids: Iterable[int]) -> Answers:
        placed = {
            taxon.aphia_id: Placed(taxon, line[:place])
            for line in LINES
            for place, taxon in enumerate(line)
            if taxon.aphia_id
        }
        placed[7] = Placed(COD, placed[126436].above, given=7)
        by_name = {one.taxon.name: number for number, one in placed.items() if number != 7}
        none = Match(why="no taxon is called so", suggestions=["Gadus morhua (126436, Species)"])
        found = {name: Match(by_name[name]) if name in by_name else none for name in names}
        wanted = {*ids, *(match.aphia_id for match in found.values())}
        return Answers(found, {number: one for number, one in placed.items() if number in wanted})


def photos(*classes: str) -> Collection:
    return Collection(Task.CLASSIFICATION, classes, tuple(ImageRecord(f"{name}.png", label=name) for name in classes))


def applied(found: Collection, labels: dict[str, Any] | None = None, **asked: Any) -> Collection:
    taxonomy = Taxonomy.model_validate({"authority": "WoRMS", **asked})
    whole = Labels.model_validate({**(labels or {}), "taxonomy": {"authority": "WoRMS", **asked}})
    return labelling.applied(found, whole, lambda classes: naming.named(classes, taxonomy, Known()))


def refusal(found: Collection, labels: dict[str, Any] | None = None, **asked: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        applied(found, labels, **asked)
    return caught.value


def taxa(found: Collection) -> dict[str, int | None]:
    assert found.taxonomy is not None
    return {name: taxon.aphia_id for name, taxon in found.taxonomy.taxa().items()}


class TestNames:
    def test_classes_keep_their_names_and_are_known_as_taxa(self) -> None:
        found = applied(photos("Gadus_morhua", "haddock", "Gadus sp."), ids={"haddock": 126437})

        assert found.classes == ("Gadus_morhua", "haddock", "Gadus sp.")
        assert taxa(found) == {"Gadus_morhua": 126436, "haddock": 126437, "Gadus sp.": 125732}
        assert found.taxonomy is not None
        assert [taxon.name for taxon in found.taxonomy.classes[1].above] == ["Animalia", "Actinopterygii", "Gadidae"]
        assert found.warnings == ()

    def test_names_are_those_after_rename_and_merge(self) -> None:
        labels = {"rename": {"torsk": "Gadus morhua"}, "merge": {"flat": ["a", "b"]}}

        assert taxa(applied(photos("torsk", "a", "b"), labels, ids={"flat": 125579})) == {
            "Gadus morhua": 126436,
            "flat": 125579,
        }

    def test_what_is_no_taxon_stays_and_is_listed_with_what_is_like_it(self) -> None:
        found = applied(photos("Gadus morua", "Limanda limanda"))

        assert found.classes == ("Gadus morua", "Limanda limanda")
        assert taxa(found) == {"Limanda limanda": 127139}
        assert found.taxonomy is not None
        (unknown,) = found.taxonomy.told.unknown
        assert (unknown.name, unknown.suggestions) == ("Gadus morua", ["Gadus morhua (126436, Species)"])
        told = "Gadus morua: no taxon is called so (like it: Gadus morhua (126436, Species))"
        assert found.warnings == (f"1 classes are no taxa, and stay as they are: {told}",)

    def test_it_refuses_the_dataset_where_that_is_asked_for(self) -> None:
        failure = refusal(photos("Gadus morua", "Limanda limanda"), onUnknown="Fail").failure

        assert (failure.reason, failure.field) == (Reason.TAXA_UNKNOWN, "labels.taxonomy.onUnknown")
        assert "1 classes are no taxa of the register: Gadus morua: no taxon is called so (like it:" in failure.message

    def test_what_is_kept_is_asked_of_nobody(self) -> None:
        found = applied(
            photos("detritus", "bubble 1", "Gadus morhua"),
            keep=["detritus", "bubble*", "marine snow"],
            onUnknown="Fail",
        )

        assert taxa(found) == {"Gadus morhua": 126436}
        assert found.taxonomy is not None
        assert found.taxonomy.told.kept == ["detritus", "bubble 1"]
        assert found.warnings == ("labels.taxonomy.keep has names that no class has: marine snow",)

    def test_a_name_that_is_not_accepted_is_told_with_the_one_that_is(self) -> None:
        found = applied(photos("torsk", "haddock"), ids={"torsk": 7, "haddock": 126437})

        assert taxa(found)["torsk"] == 126436
        assert found.warnings == ("torsk (7) is not accepted any more: Gadus morhua (126436) is taken for it",)

    def test_classes_that_are_one_taxon_are_told(self) -> None:
        found = applied(photos("cod", "Gadus morhua"), ids={"cod": 126436})

        assert found.warnings == ("cod, Gadus morhua are one taxon (126436): labels.merge makes one class of them",)

    def test_an_id_of_no_class_is_refused_with_the_nearest(self) -> None:
        failure = refusal(photos("haddock", "cod"), ids={"hadock": 126437}).failure

        assert (failure.reason, failure.field) == (Reason.LABELS_INVALID, "labels.taxonomy.ids")
        assert (
            "no class hadock once the rest of labels is done (nearest is haddock), but haddock, cod" in failure.message
        )

    def test_an_id_of_no_taxon_is_no_taxon(self) -> None:
        found = applied(photos("cod", "Gadus morhua"), ids={"cod": 99})

        assert "cod: the register has no taxon 99, or has withdrawn it" in found.warnings[0]


class TestRanks:
    def test_classes_below_the_rank_become_one_for_each_taxon_of_it(self) -> None:
        found = applied(
            photos("cod", "Melanogrammus aeglefinus", "detritus", "Limanda limanda"),
            ids={"cod": 126436},
            keep=["detritus"],
            rank="Family",
        )

        assert found.classes == ("Gadidae", "detritus", "Pleuronectidae")
        assert [image.label for image in found.images] == ["Gadidae", "Gadidae", "detritus", "Pleuronectidae"]
        assert taxa(found) == {"Gadidae": 125469, "Pleuronectidae": 125579}
        assert found.warnings == (
            "Gadidae is made of cod (1), Melanogrammus aeglefinus (1)",
            "Pleuronectidae is made of Limanda limanda (1)",
        )
        assert found.taxonomy is not None
        rolled = found.taxonomy.told.rolled_up
        assert [
            (each.name, each.aphia_id, [(one.name, one.aphia_id, one.annotations) for one in each.of])
            for each in rolled
        ] == [
            ("Gadidae", 125469, [("cod", 126436, 1), ("Melanogrammus aeglefinus", 126437, 1)]),
            ("Pleuronectidae", 125579, [("Limanda limanda", 127139, 1)]),
        ]

    def test_boxes_get_the_classes_of_the_rank_and_are_counted(self) -> None:
        boxes = tuple(
            Box(name, 1, 1, 5, 5) for name in ("Gadus morhua", "Gadus morhua", "Melanogrammus aeglefinus", "bubble")
        )
        found = Collection(
            Task.DETECTION, ("Gadus morhua", "Melanogrammus aeglefinus", "bubble"), (ImageRecord("a.png", boxes=boxes),)
        )

        done = applied(found, keep=["bubble"], rank="Family")

        assert [box.label for box in done.images[0].boxes] == ["Gadidae", "Gadidae", "Gadidae", "bubble"]
        assert "Gadidae is made of Gadus morhua (2), Melanogrammus aeglefinus (1)" in done.warnings

    def test_a_class_of_the_rank_is_the_same_as_what_is_made_of_lower_ones(self) -> None:
        found = applied(photos("gadids", "Gadus morhua", "x"), ids={"gadids": 125469}, keep=["x"], rank="Family")

        assert found.classes == ("Gadidae", "x")

    @pytest.mark.parametrize(
        ("above", "classes", "told"),
        [
            (None, ("Actinopterygii", "Gadidae", "Pleuronectidae"), "stay as they are"),
            ("Exclude", ("Gadidae", "Pleuronectidae"), "are left out"),
        ],
    )
    def test_classes_above_the_rank_stay_or_are_left_out_and_are_told(
        self, above: str | None, classes: tuple[str, ...], told: str
    ) -> None:
        asked: dict[str, Any] = {"above": above} if above else {}
        found = applied(photos("Actinopterygii", "Gadus morhua", "Limanda limanda"), rank="Family", **asked)

        assert found.classes == classes
        assert f"1 classes have no Family above them, and {told}: Actinopterygii" in found.warnings
        assert [one.path for one in found.excluded] == (["Actinopterygii.png"] if above else [])
        assert found.taxonomy is not None
        assert found.taxonomy.told.above == ["Actinopterygii"]

    def test_an_unknown_class_stays_beside_those_of_the_rank(self) -> None:
        assert applied(photos("thing", "Gadus morhua"), rank="Family").classes == ("thing", "Gadidae")

    def test_a_class_of_another_kind_is_not_mixed_with_a_taxon_of_its_name(self) -> None:
        failure = refusal(photos("Gadidae", "Gadus morhua"), keep=["Gadidae"], rank="Family").failure

        assert (failure.reason, failure.field) == (Reason.LABELS_INVALID, "labels.taxonomy.rank")
        assert "Gadus morhua would become Gadidae, which is a class of another kind" in failure.message

    def test_two_taxa_are_not_made_one_class(self) -> None:
        failure = refusal(photos("Gadidae", "Gadus morhua"), ids={"Gadidae": 10194}, rank="Family").failure

        assert (
            "two taxa would be the class Gadidae, Actinopterygii (10194, Class) and Gadidae (125469, Family)"
            in failure.message
        )

    @pytest.mark.parametrize("name", ["../Gadidae", "Gadidae/x", ".Gadidae", "Gad*", "G" * 250, "\u2800"])
    def test_a_taxon_whose_name_no_class_can_have_is_no_class(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        odd = Taxon(name=name, rank="Family", aphia_id=5)
        monkeypatch.setattr(sys.modules[__name__], "LINES", ((ANIMALS, odd, COD),))

        failure = refusal(photos("Gadus morhua", "x"), rank="Family").failure

        assert failure.field == "labels.taxonomy.rank"
        assert "which is no name of a class" in failure.message

    def test_names_that_look_the_same_are_refused_as_ever(self) -> None:
        assert (
            refusal(photos("gadidae", "Gadus morhua"), keep=["gadidae"], rank="Family").failure.reason
            == Reason.FORMAT_INVALID
        )

    def test_something_must_be_left(self) -> None:
        failure = refusal(photos("Actinopterygii", "Animalia"), rank="Family", above="Exclude").failure

        assert failure.field == "labels.taxonomy.above"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"ids": {"a": 1}, "keep": ["a"]}, "labels.taxonomy.keep"),
        ({"above": "Exclude"}, "labels.taxonomy.above"),
        ({"table": "taxa.csv", "url": "https://worms.example/rest"}, "labels.taxonomy.url"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(asked: dict[str, Any], field: str) -> None:
    assert refusal(photos("a", "b"), **asked).failure.field == field


@pytest.mark.parametrize(
    "asked",
    [{"ids": {"a": 0}}, {"ids": {"a": "x"}}, {"rank": "Tribe"}, {"authority": "ITIS"}, {"url": "ftp://worms.example"}],
)
def test_what_no_spec_can_say_is_invalid(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Taxonomy.model_validate({"authority": "WoRMS", **asked})


def test_defaults_that_somebody_wrote_out_say_nothing() -> None:
    written = {"authority": "WoRMS", "ids": {}, "keep": [], "above": "Keep", "onUnknown": "Warn"}

    assert Taxonomy.model_validate(written) == Taxonomy(authority="WoRMS")


def test_a_service_is_not_asked_for_more_classes_than_it_can_bear() -> None:
    failure = refusal(photos(*(f"Nomen {number}" for number in range(naming.MOST_CLASSES + 1)))).failure

    assert "2001 classes are more than the 2000 that a service is asked for; name a table" in failure.message
