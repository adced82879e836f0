"""Why files of a source are not in a version."""

from __future__ import annotations

from enum import StrEnum


class ExclusionReason(StrEnum):
    """Why a file of the source is not in the version. Every file is used, was read as an annotation, or has one of these."""

    CORRUPT = "Corrupt"
    """An image that cannot be decoded whole."""
    TOO_SMALL = "TooSmall"
    """An image with a side below cleaning.minSide."""
    DUPLICATE = "Duplicate"
    """An image that shows the same as an earlier one, pixel by pixel."""
    NEAR_DUPLICATE = "NearDuplicate"
    """An image that looks like an earlier one, by cleaning.duplicates.maxDistance."""
    UNREADABLE_TYPE = "UnreadableType"
    """An image of a kind that neither training nor serving reads, such as TIFF."""
    UNLISTED = "Unlisted"
    """An image that no annotation file, and no split of data.yaml, names."""
    UNLABELLED = "Unlabelled"
    """An image without a label: that it shows nothing would have to be said."""
    EXCLUDED_CLASS = "ExcludedClass"
    """An image that shows nothing but classes that spec.labels leaves out."""
    OUTSIDE_IMAGE = "OutsideImage"
    """An image all of whose annotations lie outside of it, by cleaning.outside."""
    LABEL_WITHOUT_IMAGE = "LabelWithoutImage"
    """A label file whose image is not there."""
    HIDDEN = "Hidden"
    """A name that begins with a dot or that tools give to their own files, or a file in such a folder."""
    NOT_AN_IMAGE = "NotAnImage"
    """A file that is neither an image nor was read for annotations."""
    NOT_A_FILE = "NotAFile"
    """A pipe, a socket or a device."""
    NOT_FETCHED = "NotFetched"
    """An image that the service of the source names, and did not give."""
