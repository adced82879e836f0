"""The operator believes the hub's signature for a limited time and for this one Trial, and believes nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pelagos_contract import trial_signature

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
MADE = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
SECONDS = int(MADE.timestamp())
SPEC: dict[str, Any] = {
    "modelServiceRef": {"name": "plankton"},
    "user": "0123456789abcdef",
    "duration": "10m",
    "entitlements": ["urn:mace:egi.eu:group:vo.imagine-ai.eu:role=member#aai.egi.eu"],
}
SIGNED = trial_signature.sign(KEY, namespace="lab", name="t-1", spec=SPEC, seconds=SECONDS)


def believed(signature: object = SIGNED, *, key: bytes = KEY, created: datetime = MADE, **changed: Any) -> bool:
    of = {"namespace": "lab", "name": "t-1", "spec": SPEC, **changed}
    return trial_signature.holds(key, signature, created=created, **of)


def test_what_the_hub_signs_is_believed_whatever_the_order_of_its_fields() -> None:
    assert SIGNED.startswith(f"v1:{SECONDS}:")
    assert believed()
    assert believed(spec=dict(reversed(SPEC.items())))


def test_a_field_that_is_null_is_none_as_the_api_server_keeps_it() -> None:
    assert believed(spec={**SPEC, "isolation": None})


@pytest.mark.parametrize(
    "changed",
    [
        {"namespace": "other"},
        {"name": "t-2"},
        {"key": OTHER},
        {"spec": {**SPEC, "user": "fedcba9876543210"}},
        {"spec": {**SPEC, "entitlements": [*SPEC["entitlements"], "urn:more"]}},
        {"spec": {**SPEC, "duration": "60m"}},
        {"spec": {name: value for name, value in SPEC.items() if name != "user"}},
    ],
    ids=str,
)
def test_it_is_good_for_nothing_else(changed: dict[str, Any]) -> None:
    assert not believed(**changed)


@pytest.mark.parametrize(
    ("late", "holds"), [(0, True), (300, True), (-300, True), (301, False), (-301, False), (86400, False)]
)
def test_it_is_good_for_a_trial_that_is_made_when_it_is_signed(late: int, *, holds: bool) -> None:
    assert believed(created=MADE + timedelta(seconds=late)) is holds


@pytest.mark.parametrize(
    "signature",
    [
        None, 7, "", "v1", "v1::", f"v2:{SIGNED[3:]}", SIGNED + "0", SIGNED[:-1], SIGNED.upper(), f" {SIGNED}", f"{SIGNED}\n",
        SIGNED.replace(str(SECONDS), str(SECONDS + 1)), SIGNED.replace(str(SECONDS), "9" * 13), "v1:é:" + "0" * 64,
        f"v1:{SECONDS}:" + "0" * 64, "v1:٣:" + "0" * 64,
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_signature_is_not_believed_and_breaks_nothing(signature: object) -> None:
    assert not believed(signature)


def test_a_key_is_read_anew_and_one_of_a_bad_length_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "signing-key"
    assert trial_signature.read_key(file) is None
    file.write_bytes(KEY)
    assert trial_signature.read_key(file) == KEY
    for bad in (b"", b"short", bytes(5000)):
        file.write_bytes(bad)
        with pytest.raises(ValueError, match="allowed are 32 to 4096"):
            trial_signature.read_key(file)
