from __future__ import annotations

import re
import subprocess
import sys
from http import HTTPStatus

import pytest

from ocpp_gateway.errors import BusQueueFull, BusUnavailable, StoreUnavailable
from ocpp_gateway.handshake.reasons import REFUSALS, refused, wire_text

# The labels of the contract's section 2, which dashboards of the operators are built on.
CONTRACT = {
    "identity_missing",
    "status_inactive",
    "protocol_not_allowed",
    "ip_not_allowed",
    "auth_mode_not_allowed",
    "basic_missing_header",
    "basic_invalid_format",
    "basic_user_mismatch",
    "basic_hash_missing",
    "basic_invalid",
    "token_missing",
    "token_hash_missing",
    "token_invalid",
    "mtls_missing_cert",
    "mtls_not_authorized",
    "mtls_expired",
    "mtls_revoked",
    "mtls_binding_missing",
    "mtls_binding_mismatch",
}

# Refusals within the TLS handshake, of which the peer sees an alert only.
WITHIN_TLS = {
    "tls_required",
    "tls_version_not_supported",
    "tls_cipher_not_supported",
    "tls_refused_by_peer",
    "tls_failed",
}


def test_every_label_of_the_contract_has_a_row() -> None:
    assert set(REFUSALS) >= CONTRACT


def test_every_row_is_an_http_error_with_a_snake_case_reason_and_a_meaning() -> None:
    for reason, row in REFUSALS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason)
        assert HTTPStatus(row.status) >= 400
        assert row.meaning


def test_what_ends_within_tls_has_a_row_too() -> None:
    assert {reason for reason in REFUSALS if reason.startswith("tls_")} == WITHIN_TLS
    assert {REFUSALS[reason].status for reason in WITHIN_TLS} == {403}


def test_the_wire_does_not_tell_what_is_wrong_with_a_certificate() -> None:
    rows = [row for row in REFUSALS.values() if row.reason.startswith(("mtls_", "tls_")) or "downgrade" in row.reason]
    assert {(row.status, row.wire_text) for row in rows} == {(403, "Forbidden")}


def test_an_outage_is_a_503_never_a_401() -> None:
    for error in (StoreUnavailable(), BusUnavailable(), BusQueueFull()):
        assert refused(error.reason).status == 503


def test_refused_carries_status_reason_and_headers() -> None:
    refusal = refused("basic_invalid", (("WWW-Authenticate", "Basic"),))
    assert (refusal.status, refusal.reason, refusal.headers) == (401, "basic_invalid", (("WWW-Authenticate", "Basic"),))


def test_a_reason_that_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(KeyError):
        refused("because")


def test_the_wire_does_not_tell_one_wrong_credential_from_another() -> None:
    assert {row.wire_text for row in REFUSALS.values() if row.status == 401} == {"Unauthorized"}
    assert {row.wire_text for row in REFUSALS.values() if row.status == 404} == {"Not Found"}
    assert {row.wire_text for row in REFUSALS.values() if row.status == 503} == {"Service Unavailable"}


def test_the_wire_says_what_is_wrong_with_a_request() -> None:
    assert wire_text("no_common_subprotocol") == "no_common_subprotocol"


def test_the_wire_says_nothing_about_an_unknown_reason() -> None:
    assert wire_text("redis password is hunter2") == "Internal Server Error"


def test_the_handshake_folder_needs_no_twisted_and_no_autobahn() -> None:
    modules = ["reasons", "request", "upgrade", "path", "suspicious", "subprotocol", "proxies"]
    code = "; ".join(f"import ocpp_gateway.handshake.{module}" for module in modules)
    code += "; import sys; print([name for name in ('twisted', 'autobahn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
