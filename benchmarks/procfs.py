"""What Linux knows about a running process: CPU time, memory, open files; and what waits in connections."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system CPU time of all threads of ``pid`` since it started (proc(5), stat, fields 14 and 15)."""
    # The command name, field 2, may hold spaces and brackets: count from the last bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident set size of ``pid`` (proc(5), statm, field 2)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def most_resident_bytes(pid: int) -> int:
    """The most that ``pid`` ever had resident (proc(5), status, VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resident_bytes(pid)


def open_files(pid: int) -> int:
    """File descriptors that ``pid`` has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def queued_bytes(port: int) -> int:
    """Bytes that wait in the kernel, at either end of the IPv4 connections to ``port`` (proc(5), net/tcp, queues).

    The two ends are two lines, and a byte waits at one of them.
    """
    ending, total = f":{port:04X}", 0
    with open("/proc/net/tcp") as table:
        next(table)
        for line in table:
            # Number, local address, remote address, state, queues; state 0A listens, and its queue counts connections.
            _, local, remote, state, queues, *_ = line.split(None, 5)
            if state != "0A" and (local.endswith(ending) or remote.endswith(ending)):
                sending, _, receiving = queues.partition(":")
                total += int(sending, 16) + int(receiving, 16)
    return total
