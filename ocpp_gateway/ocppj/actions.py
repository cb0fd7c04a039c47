"""Who may send which action, per version.

Sources: OCPP 1.6 edition 2 chapters 4 and 5, "Improved security for OCPP 1.6-J" chapter 5, OCPP 2.0.1 and 2.1 part 2,
chapter "Messages". Anything not listed here never reaches a schema look-up.
"""

from __future__ import annotations

from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.versions import OcppVersion


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STATION_16 = _names(
    """
    Authorize BootNotification DataTransfer DiagnosticsStatusNotification FirmwareStatusNotification Heartbeat
    LogStatusNotification MeterValues SecurityEventNotification SignCertificate SignedFirmwareStatusNotification
    StartTransaction StatusNotification StopTransaction
    """
)

_CSMS_16 = _names(
    """
    CancelReservation CertificateSigned ChangeAvailability ChangeConfiguration ClearCache ClearChargingProfile
    DataTransfer DeleteCertificate ExtendedTriggerMessage GetCompositeSchedule GetConfiguration GetDiagnostics
    GetInstalledCertificateIds GetLocalListVersion GetLog InstallCertificate RemoteStartTransaction
    RemoteStopTransaction ReserveNow Reset SendLocalList SetChargingProfile SignedUpdateFirmware TriggerMessage
    UnlockConnector UpdateFirmware
    """
)

_STATION_201 = _names(
    """
    Authorize BootNotification ClearedChargingLimit DataTransfer FirmwareStatusNotification Get15118EVCertificate
    GetCertificateStatus Heartbeat LogStatusNotification MeterValues NotifyChargingLimit NotifyCustomerInformation
    NotifyDisplayMessages NotifyEVChargingNeeds NotifyEVChargingSchedule NotifyEvent NotifyMonitoringReport
    NotifyReport PublishFirmwareStatusNotification ReportChargingProfiles ReservationStatusUpdate
    SecurityEventNotification SignCertificate StatusNotification TransactionEvent
    """
)

_CSMS_201 = _names(
    """
    CancelReservation CertificateSigned ChangeAvailability ClearCache ClearChargingProfile ClearDisplayMessage
    ClearVariableMonitoring CostUpdated CustomerInformation DataTransfer DeleteCertificate GetBaseReport
    GetChargingProfiles GetCompositeSchedule GetDisplayMessages GetInstalledCertificateIds GetLocalListVersion GetLog
    GetMonitoringReport GetReport GetTransactionStatus GetVariables InstallCertificate PublishFirmware
    RequestStartTransaction RequestStopTransaction ReserveNow Reset SendLocalList SetChargingProfile
    SetDisplayMessage SetMonitoringBase SetMonitoringLevel SetNetworkProfile SetVariableMonitoring SetVariables
    TriggerMessage UnlockConnector UnpublishFirmware UpdateFirmware
    """
)

_STATION_21 = _STATION_201 | _names(
    """
    BatterySwap ClosePeriodicEventStream GetCertificateChainStatus NotifyDERAlarm NotifyDERStartStop
    NotifyPriorityCharging NotifySettlement OpenPeriodicEventStream PullDynamicScheduleUpdate ReportDERControl
    VatNumberValidation
    """
)

_CSMS_21 = _CSMS_201 | _names(
    """
    AFRRSignal AdjustPeriodicEventStream ChangeTransactionTariff ClearDERControl ClearTariffs GetDERControl
    GetPeriodicEventStream GetTariffs NotifyAllowedEnergyTransfer NotifyWebPaymentStarted RequestBatterySwap
    SetDERControl SetDefaultTariff UpdateDynamicSchedule UsePriorityCharging
    """
)

_STATION = {OcppVersion.V16: _STATION_16, OcppVersion.V201: _STATION_201, OcppVersion.V21: _STATION_21}
_CSMS = {OcppVersion.V16: _CSMS_16, OcppVersion.V201: _CSMS_201, OcppVersion.V21: _CSMS_21}

_NONE: frozenset[str] = frozenset()
_SEND_21 = frozenset({"NotifyPeriodicEventStream"})

_TRANSACTION_RELATED_16 = frozenset({"MeterValues", "StartTransaction", "StopTransaction"})
_TRANSACTION_RELATED_2X = frozenset({"MeterValues", "TransactionEvent"})

_SIGNED = "-Signed"


def station_actions(version: OcppVersion) -> frozenset[str]:
    """The actions that a charge point may CALL."""
    return _STATION[version]


def csms_actions(version: OcppVersion) -> frozenset[str]:
    """The actions that the CSMS may CALL."""
    return _CSMS[version]


def send_actions(version: OcppVersion) -> frozenset[str]:
    """The actions that a charge point may SEND, without an answer (2.1 only)."""
    return _SEND_21 if version is OcppVersion.V21 else _NONE


def transaction_related(version: OcppVersion) -> frozenset[str]:
    """The station's CALLs that carry billing data, which no CALLERROR may ever answer.

    1.6: section 3.7 names the three. 2.x: TransactionEvent (E13); MeterValues outside of transactions is not queued
    by the charge point, but must be answered whatever the CSMS thinks of its content (J01.FR.18).
    """
    return _TRANSACTION_RELATED_2X if version.is_2x else _TRANSACTION_RELATED_16


def classify(version: OcppVersion, action: str) -> ErrorCode | None:
    """None if a charge point may CALL ``action``, else the code that answers it.

    NOT_SUPPORTED: the action exists, but belongs to the other side, to SEND, or to the signed messages of OCPP-J 2.x
    chapter 7, an optional feature that the gateway does not have. NOT_IMPLEMENTED: no such action.
    """
    if action in _STATION[version]:
        return None
    if version.is_2x:
        action = action.removesuffix(_SIGNED)
    known = action in _STATION[version] or action in _CSMS[version] or action in send_actions(version)
    return ErrorCode.NOT_SUPPORTED if known else ErrorCode.NOT_IMPLEMENTED
