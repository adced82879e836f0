"""Tests of what turns measurements into a page. Nothing is measured here: a test's time says nothing on a busy machine."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
