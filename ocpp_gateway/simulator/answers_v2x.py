"""What a simulated 2.0.1 or 2.1 charge point answers (OCPP 2.0.1 and 2.1 part 2), but for reports."""

from __future__ import annotations

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
from ocpp_gateway.simulator.messages import CONNECTOR, EVSE, member
from ocpp_gateway.simulator.meter import utc_timestamp

_OWN_WORDS = frozenset({"BootNotification", "Heartbeat", "MeterValues", "StatusNotification", "TransactionEvent"})
_IDLE = frozenset({"FirmwareStatusNotification", "LogStatusNotification", "PublishFirmwareStatusNotification"})


@define
class AnswersV2x:
    """Answers that 2.0.1 and 2.1 have in common."""

    controls: Controls
    memory: Memory

    def by_action(self) -> dict[str, Handler]:
        """One for each action."""
        memory, controls = self.memory, self.controls
        return {
            "CancelReservation": lambda asked: cancel_reservation(memory, whole(asked.get("reservationId"))),
            "CertificateSigned": lambda _: Answer(ACCEPTED),
            "ChangeAvailability": lambda asked: change_availability(
                controls, asked.get("operationalStatus"), is_here=_is_ours(asked.get("evse"))
            ),
            "ClearCache": lambda _: Answer(ACCEPTED),
            "ClearChargingProfile": self._clear_charging_profile,
            "ClearDisplayMessage": self._clear_display_message,
            "CostUpdated": lambda _: Answer({}),
            "DataTransfer": lambda _: Answer({"status": "UnknownVendorId"}),
            "DeleteCertificate": lambda asked: delete_certificate(memory, asked),
            "GetCompositeSchedule": self._get_composite_schedule,
            "GetInstalledCertificateIds": self._get_installed_certificate_ids,
            "GetLocalListVersion": lambda _: Answer({"versionNumber": memory.list_version}),
            "GetLog": self._get_log,
            "GetTransactionStatus": self._get_transaction_status,
            "InstallCertificate": lambda asked: install_certificate(memory, asked),
            "PublishFirmware": self._publish_firmware,
            "RequestStartTransaction": self._request_start,
            "RequestStopTransaction": lambda asked: stop(controls, asked.get("transactionId")),
            "ReserveNow": lambda asked: reserve(
                controls, memory, whole(asked.get("id")), is_here=asked.get("evseId", EVSE) == EVSE
            ),
            "Reset": self._reset,
            "SendLocalList": self._send_local_list,
            "SetChargingProfile": self._set_charging_profile,
            "SetDisplayMessage": self._set_display_message,
            "SetNetworkProfile": lambda _: Answer(ACCEPTED),  # for a slot that it never comes to use
            "TriggerMessage": self._trigger,
            "UnlockConnector": self._unlock_connector,
            "UnpublishFirmware": self._unpublish_firmware,
            "UpdateFirmware": lambda asked: Answer(
                ACCEPTED,
                afterwards=progress(
                    controls, "FirmwareStatusNotification", INSTALLING, requestId=whole(asked.get("requestId"))
                ),
            ),
        }

    def _reset(self, asked: Payload) -> Answer:
        if "evseId" in asked:  # its EVSE cannot be reset by itself
            return Answer(REJECTED)
        when_idle = asked.get("type") == "OnIdle" and not self.controls.is_idle()
        return Answer(
            {"status": "Scheduled"} if when_idle else ACCEPTED,
            afterwards=lambda: self.controls.reset(when_idle=when_idle),
        )

    def _trigger(self, asked: Payload) -> Answer:
        wanted = text(asked.get("requestedMessage"))
        if wanted not in _OWN_WORDS | _IDLE or wanted is None:
            return Answer({"status": "NotImplemented"})
        if not _is_ours(asked.get("evse")) or (wanted == "TransactionEvent" and self.controls.transaction_id() is None):
            return Answer(REJECTED)
        if wanted in _OWN_WORDS:
            return Answer(ACCEPTED, afterwards=lambda: self.controls.trigger(wanted))
        return Answer(ACCEPTED, afterwards=progress(self.controls, wanted, ("Idle",)))

    def _unlock_connector(self, asked: Payload) -> Answer:
        if asked.get("evseId") != EVSE or asked.get("connectorId") != CONNECTOR:
            return Answer({"status": "UnknownConnector"})
        return Answer({"status": "Unlocked" if self.controls.is_idle() else "OngoingAuthorizedTransaction"})

    def _request_start(self, asked: Payload) -> Answer:
        remote_start_id = whole(asked.get("remoteStartId"))
        if remote_start_id is None:
            return Answer(REJECTED)
        id_token = text(member(asked, "idToken", "idToken"))
        return start(self.controls, id_token, remote_start_id, is_here=asked.get("evseId", EVSE) == EVSE)

    def _get_transaction_status(self, asked: Payload) -> Answer:
        answer: Payload = {"messagesInQueue": self.controls.has_unsent()}
        wanted = asked.get("transactionId")
        if wanted is not None:
            answer["ongoingIndicator"] = wanted == self.controls.transaction_id()
        return Answer(answer)

    def _get_log(self, asked: Payload) -> Answer:
        request_id = whole(asked.get("requestId"))
        uploading = progress(self.controls, "LogStatusNotification", ("Uploading", "Uploaded"), requestId=request_id)
        return Answer({"status": "Accepted", "filename": "log.txt"}, afterwards=uploading)

    def _publish_firmware(self, asked: Payload) -> Answer:
        checksum, location = text(asked.get("checksum")), text(asked.get("location"))
        if checksum is None or location is None or not self.memory.has_room(self.memory.published):
            return Answer(REJECTED)
        self.memory.published.add(checksum)
        request_id = whole(asked.get("requestId"))

        def tell() -> None:
            for status in ("Downloading", "Downloaded", "ChecksumVerified", "Published"):
                facts = {"location": [location[:512]]} if status == "Published" else {}
                self.controls.say(
                    "PublishFirmwareStatusNotification", {"status": status, "requestId": request_id, **facts}
                )

        return Answer(ACCEPTED, afterwards=tell)

    def _unpublish_firmware(self, asked: Payload) -> Answer:
        checksum = text(asked.get("checksum"))
        if checksum is None or checksum not in self.memory.published:
            return Answer({"status": "NoFirmware"})
        self.memory.published.discard(checksum)
        return Answer({"status": "Unpublished"})

    def _send_local_list(self, asked: Payload) -> Answer:
        tokens = {
            id_token: isinstance(entry.get("idTokenInfo"), dict)
            for entry in entries(asked.get("localAuthorizationList"))
            if (id_token := text(member(entry, "idToken", "idToken"))) is not None
        }
        return send_local_list(self.memory, whole(asked.get("versionNumber")), asked.get("updateType"), tokens)

    def _set_charging_profile(self, asked: Payload) -> Answer:
        profile, place = asked.get("chargingProfile"), asked.get("evseId")
        number = whole(member(asked, "chargingProfile", "id"))
        purpose = text(member(asked, "chargingProfile", "chargingProfilePurpose"))
        level = whole(member(asked, "chargingProfile", "stackLevel"))
        if not isinstance(profile, dict) or place not in (0, EVSE) or number is None or purpose is None:
            return Answer(REJECTED)
        if level is None or purpose == "ChargingStationExternalConstraints":  # only others set those (K01.FR.22)
            return Answer(REJECTED)
        if not self.memory.has_room(self.memory.profiles) or (purpose == "TxProfile" and self.controls.is_idle()):
            return Answer(REJECTED)
        self.memory.profiles[number] = Profile(whole(place) or 0, purpose, level, profile)
        return Answer(ACCEPTED)

    def _clear_charging_profile(self, asked: Payload) -> Answer:
        wanted = self.memory.profiles_like(
            asked.get("chargingProfileId"),
            member(asked, "chargingProfileCriteria", "evseId"),
            member(asked, "chargingProfileCriteria", "chargingProfilePurpose"),
            member(asked, "chargingProfileCriteria", "stackLevel"),
        )
        for number in wanted:
            del self.memory.profiles[number]
        return Answer(ACCEPTED if wanted else {"status": "Unknown"})

    def _get_composite_schedule(self, asked: Payload) -> Answer:
        duration, unit = whole(asked.get("duration")), text(asked.get("chargingRateUnit")) or "A"
        place = whole(asked.get("evseId"))
        if place not in (0, EVSE) or duration is None or duration < 0 or unit not in LIMITS:
            return Answer(REJECTED)
        schedule = {
            "evseId": place,
            "duration": duration,
            "scheduleStart": utc_timestamp(),
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": LIMITS[unit], "numberPhases": 3}],
        }
        return Answer({"status": "Accepted", "schedule": schedule})

    def _get_installed_certificate_ids(self, asked: Payload) -> Answer:
        wanted = asked.get("certificateType")
        found = [
            {"certificateType": kind, "certificateHashData": named}
            for kind, named in self.memory.certificates
            if not isinstance(wanted, list) or kind in wanted
        ]
        return Answer({"status": "Accepted", "certificateHashDataChain": found} if found else {"status": "NotFound"})

    def _set_display_message(self, asked: Payload) -> Answer:
        message, number = asked.get("message"), whole(member(asked, "message", "id"))
        if not isinstance(message, dict) or number is None or not self.memory.has_room(self.memory.display_messages):
            return Answer(REJECTED)
        transaction_id = message.get("transactionId")
        if transaction_id is not None and transaction_id != self.controls.transaction_id():
            return Answer({"status": "UnknownTransaction"})
        self.memory.display_messages[number] = message
        return Answer(ACCEPTED)

    def _clear_display_message(self, asked: Payload) -> Answer:
        number = whole(asked.get("id"))
        if number is None or self.memory.display_messages.pop(number, None) is None:
            return Answer({"status": "Unknown"})
        return Answer(ACCEPTED)


def _is_ours(evse: object) -> bool:
    """Whether an EVSE, if one is named, is the one that there is."""
    if evse is None:
        return True
    return member({"evse": evse}, "evse", "id") == EVSE and member({"evse": evse}, "evse", "connectorId") in (
        None,
        CONNECTOR,
    )
