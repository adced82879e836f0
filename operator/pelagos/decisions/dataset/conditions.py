"""The conditions of a Dataset, in the order in which they come about."""

from __future__ import annotations

SOURCE_RESOLVED = "SourceResolved"
"""The source is there, may be read, and holds files."""
PREPARED = "Prepared"
"""The newest version is of the source's present content and the present recipe."""
QUALITY_PASSED = "QualityPassed"
"""The newest version keeps the bounds of spec.quality."""
FAIR_PASSED = "FairPassed"
"""The newest version is as FAIR as spec.fair asks before it is published."""
PUBLISHED = "Published"
"""The version that spec.publish asks for is published in its repository."""
