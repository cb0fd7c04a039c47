"""Rules of the house that no linter knows."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "ocpp_gateway"


def test_modules_hold_one_concept() -> None:
    long = {str(path): count for path in PACKAGE.rglob("*.py") if (count := len(path.read_text().splitlines())) > 350}
    assert long == {}


def test_the_plugin_imports_nothing_of_the_gateway() -> None:
    plugin = (PACKAGE.parent / "twisted/plugins/ocpp_gateway_plugin.py").read_text()
    assert [line for line in plugin.splitlines() if line.startswith(("import ", "from "))] == [
        "from twisted.application.service import ServiceMaker"
    ]
