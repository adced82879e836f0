"""Digests identify objects by their content, equally on every machine and in every release."""

from __future__ import annotations

from pelagos.decisions import digests


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digests.digest({"a": 1, "b": [1, 2]}) == digests.digest({"b": [1, 2], "a": 1})


def test_a_digest_is_the_same_on_every_machine_and_in_every_version() -> None:
    """A change would train everything again after an upgrade. The digest is that of ``sha256sum`` over {"a":"ä"}."""
    want = "46e7684c4b1944115e7f227c9f2d1275a3edf7806a40d523d1c77e0df97b3432"

    assert digests.digest({"a": "ä"}) == f"sha256:{want}"


def test_lists_keep_their_order() -> None:
    assert digests.digest([1, 2]) != digests.digest([2, 1])


def test_the_name_of_a_run_tells_kind_resource_and_inputs() -> None:
    assert digests.run_name("training", "uid-1", "sha256:0123456789abcdef") == "training-uid-1-0123456789ab"
