"""Limits on what a flood of connections may cost: log lines (``cooldown``) and re-admission (``admission``)."""
