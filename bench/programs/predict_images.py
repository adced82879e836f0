"""Runs requests through a model, with images decoded here or in a child with ceilings. Started by decoding.py.

Run with the interpreter of the environment ``triton`` and the folder ``tests`` on PYTHONPATH:
``predict_images.py PACKAGE IMAGES``. Reads lines ``here|children NUMBER`` and answers each with the processor seconds for that
number of images, children included.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(package: Path, images: Path) -> None:
    """Answer lines until standard input ends."""
    # pelagos_pipelines is not installed in this environment.
    sys.path.insert(0, str(Path(__file__).parents[2] / "pipelines"))
    import child_memory
    from pelagos_pipelines.serving import images as decoding
    from pelagos_pipelines.serving import predictor
    from pelagos_pipelines.serving.decoder import Decoder

    model = predictor.load(package)
    settings = model.settings
    decoder = Decoder(settings.task, settings.image_size, settings.stride)
    decoder.start()
    encoded = [path.read_bytes() for path in sorted(images.iterdir())]
    ways = {
        "here": lambda content: model.predict([decoding.decode_known(content)]),
        "children": lambda content: model.predict_fitted([decoder.decode(content)]),
    }
    for line in sys.stdin:
        way, number = line.split()
        cpu = time.process_time() + child_memory.seconds_of(decoder.pool)
        for index in range(int(number)):
            (found,) = ways[way](encoded[index % len(encoded)])
            json.dumps(found.render(settings.labels))
        print(time.process_time() + child_memory.seconds_of(decoder.pool) - cpu, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
