"""What a preparation says of the slices of a version: whether some are small, or lack classes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict

PAGE = "report/report.html"
"""The report, in the folder of its version."""
PAGE_BEGINS = (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'\">"
)
"""So a page of ours begins, and tells browsers to run and to fetch nothing, whatever follows."""
LARGEST_PAGE = 64 * 1024**2
"""Bytes of it."""


class ValueCount(Strict):
    """One value of a slice."""

    value: Annotated[str, Field(description="The value, such as a site.")]
    images: Annotated[int, Field(description="Images that have it.")]


class SliceFigures(Strict):
    """One way to tell images apart: by group, site, hour and so on."""

    name: Annotated[str, Field(description="What the images are told apart by.")]
    values: Annotated[int, Field(description="Different values.")]
    images: Annotated[int, Field(description="Images of which the value is known.")]
    unknown: Annotated[int, Field(description="Images of which it is not.")]
    effective: Annotated[
        str, Field(description="So many equally large values would be as uneven (Hill's number of order 2, Simpson).")
    ]
    missing: Annotated[int, Field(description="Combinations of class and value without an image.")]
    combinations: Annotated[int, Field(description="Combinations that there are.")]
    association: Annotated[
        str | None, Field(description="How far classes depend on it, from 0 to 1 (Cramer's V, corrected for bias).")
    ] = None
    probability: Annotated[
        str | None, Field(description="How often so strong a dependence comes about by chance (permutation test).")
    ] = None
    smallest: Annotated[list[ValueCount], Field(description="The smallest values, at most 10.")] = []
