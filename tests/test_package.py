"""What a wheel of the project has in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def test_the_wheel_has_every_module_script_and_the_plugin(tmp_path: Path) -> None:
    # A copy: building leaves a folder behind whose old contents would be packed the next time.
    copy = tmp_path / "project"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."],
        cwd=copy,
        check=True,
        timeout=110,
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(path.relative_to(PROJECT))
        for suffix in ("*.py", "*.lua", "py.typed")
        for path in (PROJECT / "ocpp_gateway").rglob(suffix)
    }
    assert sources - packed == set()
    assert "twisted/plugins/ocpp_gateway_plugin.py" in packed
    assert not [name for name in packed if name.startswith(("tests", "benchmarks"))]
