"""The model of a package in this process: encoded images in, answers in the JSON shape of the service contract out, or pictures.

An image that is larger than the tiles that the model was trained on is cut into tiles, as ``pelagos predict`` does for servers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from pelagos_contract.answers import merging, pictures
from pelagos_contract.answers.pixel_tiles import Asked
from pelagos_contract.tiles import Place, places
from pelagos_pipelines.deepaas.settings import Settings
from pelagos_pipelines.serving import answers, packages, predictor
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.serving.decoding import ImageRefusedError
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Thresholds

AT_ONCE = 8
"""Tiles whose outputs are held at once."""
DRAWN_MEGAPIXELS = 16
"""Millions of pixels of the largest image that is drawn on: encoding a larger PNG takes longer than callers wait."""


class Answering:
    """One model. Not safe for several threads: DEEPaaS gives each of its processes one request at a time."""

    def __init__(self, settings: Settings) -> None:
        """Load the package. Raises packages.RefusedError if it is missing or altered, or its graph cannot be run."""
        graph, described = predictor.read(settings.package, settings.manifest_sha256)
        try:
            self._predictor = predictor.Predictor(graph, described, settings.threads, AT_ONCE)
        except Exception as error:  # whatever ONNX Runtime raises
            told = " ".join(str(error).split())
            raise packages.RefusedError(f"{settings.package / packages.GRAPH} cannot be run: {told}") from None
        self._settings = described
        self._thresholds = answers.thresholds(described, settings.thresholds, of_package=settings.heeds_classes)
        geometry = described.task, described.image_size, described.stride
        self._decoder = Decoder(*geometry, color=described.color, longest=described.longest, head=described.head)
        self._decoder.start()

    def answer(self, data: bytes, confidence: float | None = None) -> dict[str, Any]:
        """The model's answer for an encoded image, in the JSON form of the service contract.

        Raises:
            ImageRefusedError: it is not a complete image of a supported format, or it exceeds a ceiling.
            UnavailableError: no process could be started to read it.
        """
        return self._found(self._decoder.pixels(data), confidence)

    def picture(self, data: bytes, confidence: float | None = None) -> io.BytesIO:
        """The image as PNG, with the predictions drawn on it. Raises like ``answer``, or if it is too large to draw on."""
        pixels = self._decoder.pixels(data)
        height, width = pixels.shape[:2]
        if width * height > DRAWN_MEGAPIXELS * 1_000_000:
            raise ImageRefusedError(
                f"the image has {width} x {height} pixels, but pictures are drawn for at most {DRAWN_MEGAPIXELS} megapixels; "
                "accept application/json, which also works for larger ones"
            )
        drawn = pictures.render(
            Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])), self._found(pixels, confidence)
        )
        file = io.BytesIO()
        drawn.save(file, "PNG", compress_level=1)
        file.seek(0)
        return file

    def _found(self, image: Pixels, confidence: float | None) -> dict[str, Any]:
        known = answers.asked_for(self._thresholds, confidence, self._settings)
        height, width = image.shape[:2]
        tile = self._settings.tile
        if tile is None or max(width, height) <= tile[0]:
            (content,) = self._contents([image], known, is_asked=confidence is not None)
            return content
        where = places(width, height, *tile)
        asked = list(self._asked(image, where, known, is_asked=confidence is not None))
        return merging.merged((width, height), asked)

    def _asked(self, image: Pixels, where: list[Place], known: Thresholds, *, is_asked: bool) -> Iterator[Asked]:
        for start in range(0, len(where), AT_ONCE):
            some = where[start : start + AT_ONCE]
            parts = [image[each.y : each.y + each.height, each.x : each.x + each.width] for each in some]
            yield from map(Asked, some, self._contents(parts, known, is_asked=is_asked))

    def _contents(self, images: list[Pixels], known: Thresholds, *, is_asked: bool) -> list[dict[str, Any]]:
        found = self._predictor.predict(images, known)
        return [answers.content(each, self._settings, self._thresholds, is_asked=is_asked) for each in found]
