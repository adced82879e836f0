"""What the tests of several engines share; what those of one need is in its folder. All systems are real."""

from __future__ import annotations

from model_packages import environments, make_want, packages
from serving_clusters import plane

__all__ = ["environments", "make_want", "packages", "plane"]
