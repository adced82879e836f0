"""Write everything that is generated from the flows and the contract: `python -m pelagos_pipelines.flows [FOLDER]`."""

import sys
from pathlib import Path

from pelagos_pipelines.flows import compilation

if __name__ == "__main__":
    compilation.write(Path(sys.argv[1]) if len(sys.argv) > 1 else compilation.FOLDER)
