"""The 41 indicators of the RDA FAIR Data Maturity Model, with the weights that FAIR EVA gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pelagos_contract.fair import checks
from pelagos_contract.fair.checks import Found
from pelagos_contract.fair.facts import Facts

Principle = Literal["findable", "accessible", "interoperable", "reusable"]
PRINCIPLES: tuple[Principle, ...] = ("findable", "accessible", "interoperable", "reusable")
PRIORITIES = {20: "Essential", 15: "Important", 10: "Useful"}


@dataclass(frozen=True)
class Indicator:
    """One indicator: its RDA code, its weight, its question, and the check that answers it."""

    code: str
    weight: int
    title: str
    check: Callable[[Facts], Found]

    @cached_property
    def principle(self) -> Principle:
        """The principle that the letter after RDA in the code stands for."""
        return next(name for name in PRINCIPLES if name[0].upper() == self.code[4])

    @property
    def priority(self) -> str:
        """RDA's priority: Essential, Important or Useful."""
        return PRIORITIES[self.weight]

    @property
    def method(self) -> str:
        """FAIR EVA's name of the indicator, such as rda_a1_1_01m."""
        return self.code.lower().replace("-", "_").replace(".", "_")


INDICATORS: tuple[Indicator, ...] = (
    Indicator("RDA-F1-01M", 20, "metadata has a persistent identifier", checks.has_persistent_identifier),
    Indicator("RDA-F1-01D", 20, "data has a persistent identifier", checks.has_persistent_identifier),
    Indicator("RDA-F1-02M", 20, "metadata has a globally unique identifier", checks.has_persistent_identifier),
    Indicator("RDA-F1-02D", 20, "data has a globally unique identifier", checks.has_unique_identifier),
    Indicator("RDA-F2-01M", 20, "metadata is rich enough to be found", checks.is_rich_for_discovery),
    Indicator("RDA-F3-01M", 20, "metadata has the identifier of the data", checks.names_the_data),
    Indicator("RDA-F4-01M", 20, "metadata can be harvested and indexed", checks.is_harvestable),
    Indicator("RDA-A1-01M", 15, "metadata says how to get the data", checks.says_how_to_get_it),
    Indicator("RDA-A1-02M", 20, "people can get the metadata", checks.metadata_is_at_its_place),
    Indicator("RDA-A1-02D", 20, "people can get the data", checks.data_is_at_its_place),
    Indicator("RDA-A1-03M", 20, "the metadata's identifier leads to a record", checks.metadata_is_at_its_place),
    Indicator("RDA-A1-03D", 20, "the data's identifier leads to the data", checks.data_is_at_its_place),
    Indicator("RDA-A1-04M", 20, "metadata comes by a standard protocol", checks.metadata_is_at_its_place),
    Indicator("RDA-A1-04D", 20, "data comes by a standard protocol", checks.data_is_at_its_place),
    Indicator("RDA-A1-05D", 15, "machines can get the data", checks.data_is_had_by_machines),
    Indicator("RDA-A1.1-01M", 20, "the metadata's protocol is free", checks.metadata_is_at_its_place),
    Indicator("RDA-A1.1-01D", 15, "the data's protocol is free", checks.data_is_at_its_place),
    Indicator("RDA-A1.2-01D", 10, "the protocol can authenticate people", checks.metadata_is_at_its_place),
    Indicator("RDA-A2-01M", 20, "metadata remains when the data is no longer available", checks.metadata_stays),
    Indicator("RDA-I1-01M", 15, "metadata is in a standard format", checks.metadata_is_in_a_standard),
    Indicator("RDA-I1-01D", 15, "data is in a standard format", checks.data_is_in_a_standard),
    Indicator("RDA-I1-02M", 15, "machines understand the metadata", checks.metadata_is_for_machines),
    Indicator("RDA-I1-02D", 15, "machines understand the data", checks.data_is_for_machines),
    Indicator("RDA-I2-01M", 15, "metadata uses FAIR vocabularies", checks.metadata_uses_vocabularies),
    Indicator("RDA-I2-01D", 10, "data uses FAIR vocabularies", checks.data_uses_vocabularies),
    Indicator("RDA-I3-01M", 15, "metadata refers to other metadata", checks.metadata_refers_to_metadata),
    Indicator("RDA-I3-01D", 10, "data refers to other data", checks.refers_to_data),
    Indicator("RDA-I3-02M", 10, "metadata refers to other data", checks.refers_to_data),
    Indicator("RDA-I3-02D", 10, "data has qualified references to other data", checks.refers_to_data),
    Indicator(
        "RDA-I3-03M", 15, "metadata has qualified references to other metadata", checks.metadata_refers_to_metadata
    ),
    Indicator("RDA-I3-04M", 10, "metadata has qualified references to other data", checks.refers_to_data),
    Indicator("RDA-R1-01M", 20, "metadata is rich enough to reuse the data", checks.is_rich_for_reuse),
    Indicator("RDA-R1.1-01M", 20, "metadata has the licence of the data", checks.has_licence),
    Indicator("RDA-R1.1-02M", 15, "the licence is a standard one", checks.has_licence),
    Indicator("RDA-R1.1-03M", 15, "machines understand the licence", checks.has_licence),
    Indicator("RDA-R1.2-01M", 15, "provenance is described as the community does", checks.has_provenance_of_its_field),
    Indicator("RDA-R1.2-02M", 10, "provenance is described as all communities do", checks.has_provenance_for_all),
    Indicator("RDA-R1.3-01M", 20, "metadata follows a community standard", checks.metadata_follows_its_community),
    Indicator("RDA-R1.3-01D", 20, "data follows a community standard", checks.data_is_in_a_standard),
    Indicator(
        "RDA-R1.3-02M",
        20,
        "machines understand the metadata's community standard",
        checks.metadata_follows_its_community_for_machines,
    ),
    Indicator("RDA-R1.3-02D", 15, "machines understand the data's community standard", checks.data_is_in_a_standard),
)
BY_METHOD = {indicator.method: indicator for indicator in INDICATORS}
