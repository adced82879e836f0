"""Tests of the code that turns measurements into a page. Nothing is measured: on a busy machine a test's time means nothing."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
