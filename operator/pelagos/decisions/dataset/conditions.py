"""The conditions of a Dataset, in the order in which they become True."""

from __future__ import annotations

SOURCE_RESOLVED = "SourceResolved"
"""The source exists, may be read, and contains files."""
PREPARED = "Prepared"
"""The newest version was made from the source's present content and the present recipe."""
QUALITY_PASSED = "QualityPassed"
"""The newest version keeps the bounds of spec.quality."""
FAIR_PASSED = "FairPassed"
"""The newest version is as FAIR as spec.fair requires before publication."""
PUBLISHED = "Published"
"""The version that spec.publish asks for is published in its repository."""
