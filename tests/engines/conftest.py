"""Fixtures that the tests of several engines share; those of a single engine are in its folder. All systems are real."""

from __future__ import annotations

from model_packages import environments, make_want, packages
from serving_clusters import plane

__all__ = ["environments", "make_want", "packages", "plane"]
