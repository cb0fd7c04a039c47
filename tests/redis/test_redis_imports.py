from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ocpp_gateway.redis


def test_only_the_client_and_its_pool_install_a_reactor() -> None:
    folder = Path(ocpp_gateway.redis.__path__[0])
    modules = sorted(file.stem for file in folder.glob("*.py") if file.stem not in ("__init__", "client", "pool"))
    assert "ownership" in modules
    # claims speaks of sessions, whose own imports are not looked at here.
    names = ", ".join(f"ocpp_gateway.redis.{module}" for module in modules if module != "claims")
    code = f"import sys, {names}\nprint(sorted({{'txredisapi', 'twisted.internet.reactor'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_script_says_what_it_takes_and_gives() -> None:
    scripts = sorted(Path(ocpp_gateway.redis.__path__[0]).joinpath("scripts").glob("*.lua"))
    assert len(scripts) == 24
    for script in scripts:
        text = script.read_text()
        assert text.startswith("-- ")
        assert "-- KEYS:" in text
        assert "-- Gives:" in text
