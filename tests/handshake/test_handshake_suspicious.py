from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.handshake.suspicious import suspicion


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/admin", "admin"),
        ("/ocpp/1.6/admin", "admin"),
        ("/Administrator/index", "admin"),
        ("/manager/html", "admin"),
        ("/login", "login"),
        ("/user/Sign-In?next=/", "login"),
        ("/.env", "dotfile"),
        ("/ocpp/.git/config", "dotfile"),
        ("/%2eenv", "dotfile"),
        ("/wp-content/x", "wordpress"),
        ("/xmlrpc.php", "wordpress"),
        ("/phpMyAdmin/", "phpmyadmin"),
        ("/index.php?a=1", "script"),
        ("/cgi-bin/luci", "script"),
        ("/etc/passwd", "passwd"),
        ("/../x", "traversal"),
        ("/ocpp/1.6/..", "traversal"),
        ("/ocpp/%2e%2e%2fsecret", "traversal"),
        ("/ocpp/%252e%252e%252fsecret", "traversal"),
        ("/ocpp/..%5cwindows", "traversal"),
        ("/ocpp/1.6/CP-001'%20OR%20'1'='1", "sql"),
        ("/ocpp/1.6/CP-001'--", "sql"),
        ("/?id=1+union+all+select+1", "sql"),
        ("/?id=1%20UNION/**/SELECT%201", "sql"),
        ("/?id=1;drop%20table%20x", "sql"),
        ("/?id=sleep(5)", "sql"),
        ("/?x=${jndi:ldap://a}", "injection"),
        ("/%3Cscript%3E", "injection"),
        ("/ocpp/CP-1%00", "control_bytes"),
        ("/ocpp/CP-1%0d%0aX:1", "control_bytes"),
        ("/dump.sql", "backup"),
    ],
)
def test_what_scanners_ask_for_has_a_name(target: str, kind: str) -> None:
    assert suspicion(target) == kind


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/favicon.ico",
        "/ocpp/1.6/CP-001",
        "/ocpp/2.0.1/RDAM%20123",
        "/ocpp/CP-A..B",
        "/ocpp/1.6/ALFEN-ACE0123456",
        "/steve/websocket/CentralSystemService/CP-001",
        "/ocpp/1.6/CP-001?token=abc",
    ],
)
def test_what_a_charge_point_with_a_wrong_url_asks_for_has_none(target: str) -> None:
    assert suspicion(target) is None


@given(st.text())
def test_any_target_can_be_classified(target: str) -> None:
    kind = suspicion(target)
    assert kind is None or kind.isidentifier()


@pytest.mark.parametrize("piece", ["union/**/", "select ", "'  ", "/..", "/*", "%25", "or ", "log", "$"])
def test_no_target_takes_long(piece: str) -> None:
    started = time.perf_counter()
    suspicion(piece * (16384 // len(piece)))
    assert time.perf_counter() - started < 0.2
