"""Limits on what a flood of connections may cost.

Connections and attempts (``guard``, by rates of ``gcra``), re-admission after an outage (``admission``), and log lines
(``cooldown``). What an address counts as is in ``addresses``.
"""
