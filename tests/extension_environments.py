"""The environments of an installation with extensions: those of `make install`, with one more package in two of them."""

from __future__ import annotations

import sys
from pathlib import Path

from installations import ENVIRONMENTS

PACKAGE = Path(__file__).with_name("extension_example")


def make(folder: Path) -> Path:
    """Make environments in ``folder`` with `extension_example` installed for the operator and for steps; returns ``folder``."""
    packages = folder / "packages"
    packages.mkdir(parents=True)
    (packages / PACKAGE.name).symlink_to(PACKAGE)
    for name in ("tracking", "triton"):
        (folder / name).symlink_to(ENVIRONMENTS / name)
    for name, base in (("operator", Path(sys.prefix)), ("pipelines", ENVIRONMENTS / "pipelines")):
        _with_package(folder / name, base, packages)
    return folder


def _with_package(environment: Path, base: Path, packages: Path) -> None:
    """Make an environment that has everything in ``base`` and the packages in ``packages``."""
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to((base / "bin" / "python").resolve())
    (environment / "pyvenv.cfg").write_text((base / "pyvenv.cfg").read_text(encoding="utf-8"), encoding="utf-8")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = environment / "lib" / version / "site-packages"
    site.mkdir(parents=True)
    inherited = base / "lib" / version / "site-packages"
    lines = (f"import site; site.addsitedir({str(inherited)!r})", str(packages))
    (site / "extension.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
