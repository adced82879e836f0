"""Images and suggestions for annotation tools: one module per tool, with a `tool.Tool`. A new tool is a line in TOOLS."""

from pelagos.cli.annotating import cvat, label_studio
from pelagos.cli.annotating.tool import Tool
from pelagos_contract.registry import Registry

TOOLS: Registry[Tool] = Registry("annotation tool", (label_studio.TOOL, cvat.TOOL))
