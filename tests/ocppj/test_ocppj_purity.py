"""The protocol's core does no I/O: it can be imported, and tested, without a reactor."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import ocpp_gateway.ocppj

SCRIPT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
from ocpp_gateway.ocppj.schemas import Schemas
Schemas.load()
unwanted = {"twisted", "autobahn", "txaio", "asyncio", "jsonschema"}
print(*sorted(unwanted & {name.partition(".")[0] for name in sys.modules}))
print(*sorted(name for name in sys.modules if name.startswith("ocpp.")))
"""

MODULES = sorted(module.name for module in pkgutil.iter_modules(ocpp_gateway.ocppj.__path__))


def test_no_module_needs_a_framework() -> None:
    assert "codec" in MODULES
    names = [f"ocpp_gateway.ocppj.{name}" for name in MODULES]
    run = subprocess.run([sys.executable, "-c", SCRIPT, *names], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_modules_stay_readable() -> None:
    for folder in ocpp_gateway.ocppj.__path__:
        for file in Path(folder).glob("*.py"):
            assert len(file.read_text().splitlines()) <= 300, file.name
