"""An image of a version is decoded only if it is still the one that the preparation decoded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import untrusted_images
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.evaluation.samples import Sample


def test_an_image_that_was_put_in_the_place_of_another_is_not_decoded(tmp_path: Path) -> None:
    file, content = tmp_path / "blob", untrusted_images.photo()
    file.write_bytes(content)
    sample = Sample("a", file, np.array([0]), np.zeros((0, 4)), hashlib.sha256(content).hexdigest())
    assert sample.pixels().shape == (300, 400, 3)
    file.write_bytes(untrusted_images.blank(9_000, 9_000))

    with pytest.raises(RefusedError, match="damaged or was altered") as caught:
        sample.pixels()
    assert caught.value.failure.reason is Reason.DATASET_NOT_READABLE
