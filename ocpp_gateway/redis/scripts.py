"""The Lua scripts beside this module: each is one multi-step change that nobody can see half done.

They run on Redis 6 and 7 alike: no undeclared globals, no options newer than 6.0. Whole numbers travel as text and
are put together as text, since Lua's numbers are doubles and its JSON encoder would round and reformat them.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from attrs import field, frozen


@frozen
class Script:
    """One Lua script. ``name`` is its file's name and what errors call it, ``digest`` what Redis calls it (EVALSHA)."""

    name: str
    text: bytes
    digest: str = field(init=False)

    @classmethod
    def load(cls, name: str) -> Script:
        """Read ``scripts/{name}.lua`` of this package."""
        return cls(name, files("ocpp_gateway.redis").joinpath("scripts", f"{name}.lua").read_bytes())

    @digest.default
    def _digest(self) -> str:
        return hashlib.sha1(self.text, usedforsecurity=False).hexdigest()
