"""What a simulated 1.6 charge point answers (OCPP 1.6 edition 2 chapter 5, "Improved security for OCPP 1.6-J")."""

from __future__ import annotations

import re

from attrs import define

from ocpp_gateway.simulator.answers import (
    ACCEPTED,
    INSTALLING,
    LIMITS,
    REJECTED,
    Handler,
    cancel_reservation,
    change_availability,
    delete_certificate,
    entries,
    install_certificate,
    progress,
    reserve,
    send_local_list,
    start,
    stop,
    text,
    whole,
)
from ocpp_gateway.simulator.connection import Answer
from ocpp_gateway.simulator.controls import Controls
from ocpp_gateway.simulator.frames import Payload
from ocpp_gateway.simulator.memory import Memory, Profile
from ocpp_gateway.simulator.messages import CONNECTOR, member
from ocpp_gateway.simulator.meter import utc_timestamp

KEY_OF_PASSWORD = "AuthorizationKey"  # noqa: S105 - its name
_HEX_KEY = re.compile(r"(?:[0-9A-Fa-f]{2}){1,20}")
_PLACES = (0, CONNECTOR)
_OWN_WORDS = frozenset({"BootNotification", "Heartbeat", "MeterValues", "StatusNotification"})
_TRIGGERED = _OWN_WORDS | {"DiagnosticsStatusNotification", "FirmwareStatusNotification"}
_TRIGGERED_BY_EXTENDED = _OWN_WORDS | {"LogStatusNotification", "FirmwareStatusNotification"}


@define
class AnswersV16:
    """Answers of 1.6."""

    controls: Controls
    memory: Memory

    def by_action(self) -> dict[str, Handler]:
        """One for each action."""
        memory, controls = self.memory, self.controls
        return {
            "CancelReservation": lambda asked: cancel_reservation(memory, whole(asked.get("reservationId"))),
            "CertificateSigned": lambda _: Answer(ACCEPTED),
            "ChangeAvailability": lambda asked: change_availability(
                controls, asked.get("type"), is_here=asked.get("connectorId") in _PLACES
            ),
            "ChangeConfiguration": self._change_configuration,
            "ClearCache": lambda _: Answer(ACCEPTED),
            "ClearChargingProfile": self._clear_charging_profile,
            "DataTransfer": lambda _: Answer({"status": "UnknownVendorId"}),
            "DeleteCertificate": lambda asked: delete_certificate(memory, asked),
            "ExtendedTriggerMessage": lambda asked: self._trigger(asked, _TRIGGERED_BY_EXTENDED),
            "GetCompositeSchedule": self._get_composite_schedule,
            "GetConfiguration": self._get_configuration,
            "GetDiagnostics": lambda _: Answer(
                {"fileName": "diagnostics.txt"},
                afterwards=progress(controls, "DiagnosticsStatusNotification", ("Uploading", "Uploaded")),
            ),
            "GetInstalledCertificateIds": self._get_installed_certificate_ids,
            "GetLocalListVersion": lambda _: Answer({"listVersion": memory.list_version}),
            "GetLog": self._get_log,
            "InstallCertificate": lambda asked: install_certificate(memory, asked),
            "RemoteStartTransaction": lambda asked: start(
                controls, text(asked.get("idTag")), None, is_here=asked.get("connectorId", CONNECTOR) == CONNECTOR
            ),
            "RemoteStopTransaction": lambda asked: stop(controls, asked.get("transactionId")),
            "ReserveNow": lambda asked: reserve(
                controls, memory, whole(asked.get("reservationId")), is_here=asked.get("connectorId") in _PLACES
            ),
            # Soft or hard: it stops what goes on, says so, and reboots.
            "Reset": lambda _: Answer(ACCEPTED, afterwards=lambda: controls.reset(when_idle=False)),
            "SendLocalList": self._send_local_list,
            "SetChargingProfile": self._set_charging_profile,
            "SignedUpdateFirmware": self._signed_update_firmware,
            "TriggerMessage": lambda asked: self._trigger(asked, _TRIGGERED),
            "UnlockConnector": self._unlock_connector,
            "UpdateFirmware": lambda _: Answer(
                {}, afterwards=progress(controls, "FirmwareStatusNotification", INSTALLING)
            ),
        }

    def _change_configuration(self, asked: Payload) -> Answer:
        name, value = text(asked.get("key")), text(asked.get("value"))
        if name is not None and name.lower() == KEY_OF_PASSWORD.lower():
            if value is None or _HEX_KEY.fullmatch(value) is None:
                return Answer(REJECTED)
            secret = bytes.fromhex(value)
            return Answer(ACCEPTED, afterwards=lambda: self.controls.set_password(secret))
        if name is None or self.controls.get(name) is None:
            return Answer({"status": "NotSupported"})
        return Answer(ACCEPTED if value is not None and self.controls.set(name, value) else REJECTED)

    def _get_configuration(self, asked: Payload) -> Answer:
        names = asked.get("key") or [*self.controls.names(), KEY_OF_PASSWORD]
        known: list[Payload] = []
        unknown: list[str] = []
        for name in names if isinstance(names, list) else []:
            if not isinstance(name, str):
                continue
            value = self.controls.get(name)
            if name == KEY_OF_PASSWORD:
                known.append({"key": name, "readonly": False})  # it can be written, and not read
            elif value is not None:
                known.append({"key": name, "readonly": self.controls.is_read_only(name), "value": value})
            else:
                unknown.append(name[:50])
        return Answer({"configurationKey": known, **({"unknownKey": unknown} if unknown else {})})

    def _trigger(self, asked: Payload, known: frozenset[str]) -> Answer:
        wanted = text(asked.get("requestedMessage"))
        if wanted is None or wanted not in known:
            return Answer({"status": "NotImplemented"})
        if asked.get("connectorId", CONNECTOR) != CONNECTOR:
            return Answer(REJECTED)
        if wanted in _OWN_WORDS:
            return Answer(ACCEPTED, afterwards=lambda: self.controls.trigger(wanted))
        return Answer(ACCEPTED, afterwards=progress(self.controls, wanted, ("Idle",)))

    def _unlock_connector(self, asked: Payload) -> Answer:
        if asked.get("connectorId") != CONNECTOR:
            return Answer({"status": "NotSupported"})
        afterwards = None if self.controls.is_idle() else self.controls.remote_stop
        return Answer({"status": "Unlocked"}, afterwards=afterwards)

    def _get_log(self, asked: Payload) -> Answer:
        uploading = progress(
            self.controls, "LogStatusNotification", ("Uploading", "Uploaded"), requestId=whole(asked.get("requestId"))
        )
        return Answer({"status": "Accepted", "filename": "log.txt"}, afterwards=uploading)

    def _signed_update_firmware(self, asked: Payload) -> Answer:
        steps = ("Downloading", "Downloaded", "SignatureVerified", "Installing", "Installed")
        request_id = whole(asked.get("requestId"))
        return Answer(
            ACCEPTED,
            afterwards=progress(self.controls, "SignedFirmwareStatusNotification", steps, requestId=request_id),
        )

    def _send_local_list(self, asked: Payload) -> Answer:
        tokens = {
            id_tag: isinstance(entry.get("idTagInfo"), dict)
            for entry in entries(asked.get("localAuthorizationList"))
            if (id_tag := text(entry.get("idTag"))) is not None
        }
        return send_local_list(self.memory, whole(asked.get("listVersion")), asked.get("updateType"), tokens)

    def _set_charging_profile(self, asked: Payload) -> Answer:
        profile, place = asked.get("csChargingProfiles"), asked.get("connectorId")
        number = whole(member(asked, "csChargingProfiles", "chargingProfileId"))
        purpose = text(member(asked, "csChargingProfiles", "chargingProfilePurpose"))
        level = whole(member(asked, "csChargingProfiles", "stackLevel"))
        if not isinstance(profile, dict) or place not in _PLACES or None in (number, purpose, level):
            return Answer(REJECTED)
        if not self.memory.has_room(self.memory.profiles) or (purpose == "TxProfile" and self.controls.is_idle()):
            return Answer(REJECTED)
        self.memory.profiles[number or 0] = Profile(whole(place) or 0, purpose or "", level or 0, profile)
        return Answer(ACCEPTED)

    def _clear_charging_profile(self, asked: Payload) -> Answer:
        wanted = self.memory.profiles_like(
            asked.get("id"), asked.get("connectorId"), asked.get("chargingProfilePurpose"), asked.get("stackLevel")
        )
        for number in wanted:
            del self.memory.profiles[number]
        return Answer(ACCEPTED if wanted else {"status": "Unknown"})

    def _get_composite_schedule(self, asked: Payload) -> Answer:
        duration, unit = whole(asked.get("duration")), text(asked.get("chargingRateUnit")) or "A"
        if asked.get("connectorId") not in _PLACES or duration is None or duration < 0 or unit not in LIMITS:
            return Answer(REJECTED)
        schedule = {
            "duration": duration,
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": LIMITS[unit], "numberPhases": 3}],
        }
        place = {"connectorId": asked.get("connectorId"), "scheduleStart": utc_timestamp()}
        return Answer({"status": "Accepted", **place, "chargingSchedule": schedule})

    def _get_installed_certificate_ids(self, asked: Payload) -> Answer:
        found = [named for kind, named in self.memory.certificates if kind == asked.get("certificateType")]
        return Answer({"status": "Accepted", "certificateHashData": found} if found else {"status": "NotFound"})
