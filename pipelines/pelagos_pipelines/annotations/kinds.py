"""Decides which files are images and which of them can be read, by the suffix, and by the first bytes where that is ambiguous.

Sources ask for every file, so that no image is lost because of an unexpected name. Nothing is parsed.
"""

from __future__ import annotations

import re


def _suffixes(kinds: str) -> frozenset[str]:
    return frozenset(f".{kind}" for kind in kinds.split())


JPEG = _suffixes("jpg jpeg jpe jfif jif mpo")
READABLE = JPEG | _suffixes("png apng tif tiff bmp dib webp jp2 j2k j2c jpc")
"""Suffixes of readable images. A file may have the wrong one of them; its content decides."""
OTHER = _suffixes(
    "gif jpf jpx jxl jxr heic heif heics avif pgm ppm pbm pnm pam pfm ras sr hdr pic exr"
    " tga icb vda vst dcm dicom dng nef nrw cr2 cr3 crw arw srf sr2 raf orf rw2 pef rwl iiq 3fr erf mrw x3f raw"
    " psd psb xcf svg svgz ico pcx sgi rgb fits fit czi lif nd2 vsi svs ndpi scn mrxs dv dvi"
)
"""Suffixes of images that a person has to convert first."""
_KNOWN = _suffixes(
    "txt json jsonl yaml yml xml csv tsv md rst html htm css js pdf py ipynb sh m r log cache names cfg ini toml lock"
    " zip tar gz tgz bz2 xz 7z rar npy npz pkl pt pth onnx h5 hdf5 mat parquet arrow feather db sqlite"
    " mp4 avi mov mkv mpg mpeg wmv m4v wav mp3 xls xlsx ods doc docx odt ppt pptx"
)
"""Suffixes of files that are not images and need no look at their content."""
_TELLING = READABLE | OTHER | _KNOWN
BEGINNING = 132
"""Number of first bytes that suffice to recognise an image."""
_SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|II\*\0|MM\0\*|II\+\0|MM\0\+|GIF8[79]a|BM.{4}\0{4}|RIFF.{4}WEBP|8BPS"
    rb"|\0\0\0\x0cj[P2X]|\xff\x0a|\xff\x4f\xff\x51|.{4}ftyp(?:heic|heix|hevc|mif1|msf1|avif|avis|crx )|P[1-7][\s#]"
    rb"|v/1\x01|.{128}DICM",
    re.DOTALL,
)

_READ = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|II\*\0|MM\0\*|II\+\0|MM\0\+|BM.{4}\0{4}|RIFF.{4}WEBP|\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    re.DOTALL,
)
"""Signatures of readable images; the others in _SIGNATURES are not."""


def is_doubtful(suffix: str) -> bool:
    """Whether the suffix does not determine what a file is."""
    return suffix not in _TELLING


def is_image(beginning: bytes) -> bool:
    """Whether a file with these first bytes is an image, whatever its name."""
    return _SIGNATURES.match(beginning) is not None


def is_other(beginning: bytes) -> bool:
    """Whether it is an image of a kind that cannot be read, whatever its name."""
    return is_image(beginning) and _READ.match(beginning) is None
