"""CVAT for images 1.1: annotations.xml of a task, project or job, with the images in ``images/``, optionally by subset.

Source: docs.cvat.ai, "XML annotation format", version 1.1. CVAT for video, which has tracks over frames, is refused by name.
"""

from __future__ import annotations

from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.formats import CVAT
from pelagos_contract.suggestions import Suggested
from pelagos_contract.text import shown
from pelagos_pipelines.annotations import cvat_writing, masks
from pelagos_pipelines.annotations.drawings import Drawings, Drawn
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.many_shapes import Shapes
from pelagos_pipelines.annotations.model import Format, SourceFiles, suffix
from pelagos_pipelines.annotations.shapes import Kind, Shape, rectangle
from pelagos_pipelines.annotations.untrusted_input import class_name


def _files(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) == ".xml"]


def recognises(tree: SourceFiles) -> bool:
    """Whether there are XML files of CVAT."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


def _fill(tree: SourceFiles, _: str, found: Drawings, __: Faults) -> None:
    """Separate suggestions from people's annotations, which CVAT does not distinguish; it also forgets changed suggestions.

    Shapes of images that could not be fetched are left out together with these images, which are reported by name.
    """
    unfetched = {each.path for each in tree.excluded if each.reason is ExclusionReason.NOT_FETCHED}
    if not tree.pushed and not unfetched:
        return
    for image in found.images:
        if shown(image.names[-1]) in unfetched:
            _forget(image)
            continue
        pushed = tree.pushed.get(image.names[-1].rpartition("/")[2])
        if pushed is None:
            continue
        if not pushed.is_reviewed:
            # An image that nobody has reviewed is neither ground truth nor background.
            _forget(image)
        elif pushed.suggested is not None:
            image.model, image.predicted = pushed.suggested.model, _shapes(pushed.suggested)


def _forget(image: Drawn) -> None:
    image.shapes, image.is_labelled, image.left = Shapes(), False, 0


def _shapes(suggested: Suggested) -> Shapes:
    """The suggested shapes; empty if a label is not a valid class, which only affects the count of corrections."""
    try:
        if suggested.label is not None:
            return Shapes([Shape(class_name(suggested.label, "a suggestion"), Kind.TAG)])
        boxes = (
            rectangle(class_name(box.label, "a suggestion"), left, top, right - left, bottom - top, box.angle or 0.0)
            for box in suggested.boxes
            for left, top, right, bottom in (box.sides,)
        )
        drawn = (
            masks.of_rows(class_name(one.label, "a suggestion"), one.runs, (one.left, one.top, one.width, one.height))
            for one in suggested.masks or ()
        )
        return Shapes((*boxes, *drawn))
    except (RefusedError, ValueError):
        return Shapes()


TOOL = Tool(
    CVAT,
    _files,
    "pelagos_pipelines.annotations.cvat_document",
    is_whole=True,
    fill=_fill,
    said={
        "cuboids": "annotations are cuboids, which have no place in a flat image, and are left out",
        "others": "annotations have a kind that this release does not know, and are left out",
    },
)
FORMAT = Format(CVAT, recognises, TOOL.read, cvat_writing.write, evidence=TOOL.evidence)
