"""Extensions as somebody else would write them: a source, two formats, a family, an engine, ..., one module each.

Nothing here is discovered automatically: to run Pelagos with them, set ``PELAGOS_EXTENSIONS=extension_example``, and each process
calls what follows. `descriptions.py` is the part that both planes know.
"""

from __future__ import annotations


def register() -> None:
    """In both planes: the names that specs may say."""
    from extension_example import descriptions
    from pelagos_contract import sources
    from pelagos_contract.families import FAMILIES
    from pelagos_contract.formats import FORMATS

    sources.register(descriptions.SOURCE)
    FORMATS.register(descriptions.FORMAT)
    FORMATS.register(descriptions.CIRCLES)
    FAMILIES.register(descriptions.FAMILY)


def register_data_plane() -> None:
    """In steps: the code."""
    from extension_example import circles, descriptions, format, source
    from pelagos_pipelines.annotations.registry import FORMATS
    from pelagos_pipelines.sources.registry import PLACES
    from pelagos_pipelines.training.families import FAMILIES, Offered

    PLACES.register(source.PLACE)
    FORMATS.register(format.FORMAT)
    FORMATS.register(circles.FORMAT)
    FAMILIES.register(Offered(descriptions.FAMILY, "extension_example.family"))


def register_control_plane() -> None:
    """In the operator: the engine."""
    from extension_example import workshop
    from pelagos import engine_registry

    engine_registry.PIPELINES.register(workshop.DESCRIPTOR)
