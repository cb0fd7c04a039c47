from __future__ import annotations

import pytest

from ocpp_gateway.handshake.reasons import REFUSALS
from ocpp_gateway.session.reasons import CloseReason

_FITS = 123
"""Bytes of text in a close frame (RFC 6455 section 5.5)."""

REVOKED = [
    *("identity_missing", "status_inactive", "protocol_not_allowed", "ip_not_allowed", "auth_mode_not_allowed"),
    *("profile_downgrade", "credential_changed", "identity_changed", "mtls_revoked", "mtls_binding_missing"),
    *("mtls_binding_mismatch", "mtls_organization_not_allowed", "serial_number_mismatch"),
]


@pytest.mark.parametrize("label", REVOKED)
def test_who_may_not_be_connected_any_more_is_closed_for_a_violation_of_policy(label: str) -> None:
    assert CloseReason.from_label(label).code == 1008


def test_a_session_ends_under_the_name_by_which_the_next_handshake_is_refused() -> None:
    of_sessions_only = {"credential_changed", "identity_changed", "serial_number_mismatch"}
    assert set(REVOKED) - of_sessions_only <= set(REFUSALS)


def test_every_reason_has_a_name_of_its_own_and_a_text_that_fits() -> None:
    for reason in CloseReason:
        assert CloseReason.from_label(reason.label) is reason
        assert len(reason.text.encode()) <= _FITS


def test_there_is_no_reason_of_another_name() -> None:
    with pytest.raises(KeyError):
        CloseReason.from_label("nonsense")
