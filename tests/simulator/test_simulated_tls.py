"""Simulated charge points over TLS: what they show, and what they say when it does not work."""

from __future__ import annotations

import asyncio
import random
import ssl
from pathlib import Path

import pytest
from simulator.small_csms import SmallCsms
from support.certificates import Authority, Issued, days
from support.tls_listener import tls_listener

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.charge_point import ChargePoint, Trouble
from ocpp_gateway.simulator.connection import Answer, Connection, Target
from ocpp_gateway.simulator.errors import Refused, Unreachable
from ocpp_gateway.simulator.plan import Plan
from ocpp_gateway.simulator.tally import Tally

AUTHORITY, FOREIGN = Authority("Ours"), Authority("Somebody's")
SERVER = AUTHORITY.issue("localhost", sans=["IP:127.0.0.1"], client=False)
ELSEWHERE = AUTHORITY.issue("csms.example.com", sans=["DNS:csms.example.com"], client=False)
CLIENT = AUTHORITY.issue("SN-4711")
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def written(issued: Issued, tmp_path: Path) -> tuple[Path, Path]:
    return issued.write(tmp_path, issued.fingerprint)


def serving(tmp_path: Path, issued: Issued = SERVER, *, wants: ssl.VerifyMode = ssl.CERT_REQUIRED) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*written(issued, tmp_path))
    context.load_verify_locations(cadata=AUTHORITY.certificate_pem.decode())
    context.verify_mode = wants
    return context


def calling(tmp_path: Path, issued: Issued | None = CLIENT, *, trusted: Authority = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=trusted.certificate_pem.decode())
    if issued is not None:
        context.load_cert_chain(*written(issued, tmp_path))
    return context


def target(url: str, tls: ssl.SSLContext | None, *, shows: bool, version: OcppVersion = OcppVersion.V201) -> Target:
    return Target(
        f"{url}/ocpp/2.0.1/CP-1",
        "CP-1",
        version,
        tls=tls,
        shows_certificate=shows,
        serial_number="SN-4711" if shows else None,
    )


def trouble(port: int, tls: ssl.SSLContext | None, *, shows: bool) -> Unreachable:
    """What a connection to ``port`` ends with."""
    scheme = "ws" if tls is None else "wss"

    async def connect() -> None:
        where = target(f"{scheme}://127.0.0.1:{port}", tls, shows=shows)
        async with asyncio.timeout(10.0):
            await Connection.open(where, lambda call: Answer())

    with pytest.raises(Unreachable) as caught:
        asyncio.run(connect())
    return caught.value


@pytest.mark.parametrize("version", list(OcppVersion), ids=lambda version: version.label)
def test_a_certificate_is_enough(tmp_path: Path, version: OcppVersion) -> None:
    async def run() -> None:
        csms = SmallCsms()
        csms.common_names["CP-1"] = "SN-4711"
        async with asyncio.timeout(20.0), csms.running(tls=serving(tmp_path, wants=ssl.CERT_OPTIONAL)):
            charge_point = ChargePoint(
                target=target(csms.url, calling(tmp_path), shows=True, version=version),
                plan=Plan(sessions=1, readings=1, meter_interval=0.02, pause=0.01),
                tally=(tally := Tally()),
                chance=random.Random(1),
                on_trouble=troubles.append,
            )
            await charge_point.run()
        assert csms.problems == []
        assert tally.finished_transactions == 1
        assert "Authorization" not in csms.headers[0]
        boot = csms.seen[0].payload
        told = boot["chargingStation"]["serialNumber"] if version.is_2x else boot["chargePointSerialNumber"]
        assert told == "SN-4711"  # what the certificate says, as OCPP 2.x has it compared

    troubles: list[Trouble] = []
    asyncio.run(run())
    assert troubles == []


def test_password_and_certificate_are_both_sent(tmp_path: Path) -> None:
    async def run() -> None:
        csms = SmallCsms()
        csms.common_names["CP-1"] = "SN-4711"
        async with csms.running(tls=serving(tmp_path)):
            both = Target(f"{csms.url}/CP-1", "CP-1", OcppVersion.V16, secret=b"s", tls=calling(tmp_path))
            connection = await Connection.open(both, lambda call: Answer())
            await connection.close()
        assert csms.headers[0]["Authorization"].startswith("Basic ")

    asyncio.run(run())


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize(
    ("shown", "cause", "advice"),
    [
        (None, "wants a client certificate", "--cert"),
        (FOREIGN.issue("SN-4711"), "does not know the authority", "OCPP_TLS_CA_PATH"),
        (AUTHORITY.issue("SN-4711", not_before=days(-9), not_after=days(-1)), "out of date", "pki issue"),
    ],
    ids=["none", "foreign", "expired"],
)
def test_what_the_gateway_has_against_a_certificate(
    tmp_path: Path, version: ssl.TLSVersion, shown: Issued | None, cause: str, advice: str
) -> None:
    context = serving(tmp_path)
    context.maximum_version = version
    with tls_listener(context) as port:
        told = trouble(port, calling(tmp_path, shown), shows=shown is not None)
    assert cause in told.cause and advice in told.advice


def test_what_the_charge_point_has_against_the_gateway(tmp_path: Path) -> None:
    with tls_listener(serving(tmp_path)) as port:
        unknown = trouble(port, calling(tmp_path, trusted=FOREIGN), shows=True)
    assert "not trusted" in unknown.cause and "--ca FILE" in unknown.advice
    with tls_listener(serving(tmp_path, ELSEWHERE)) as port:
        other_name = trouble(port, calling(tmp_path), shows=True)
    assert "another name" in other_name.cause and "--url" in other_name.advice
    old = AUTHORITY.issue("localhost", sans=["IP:127.0.0.1"], client=False, not_before=days(-9), not_after=days(-1))
    with tls_listener(serving(tmp_path, old)) as port:
        assert "out of date" in trouble(port, calling(tmp_path), shows=True).cause


def test_nothing_in_common(tmp_path: Path) -> None:
    context = serving(tmp_path, wants=ssl.CERT_NONE)
    context.maximum_version = TLS_1_2
    caller = calling(tmp_path)
    caller.minimum_version = TLS_1_3
    with tls_listener(context) as port:
        assert "no TLS version" in trouble(port, caller, shows=True).cause
        caller = calling(tmp_path)
        caller.maximum_version = TLS_1_2
        caller.set_ciphers("AES128-GCM-SHA256")  # needs an RSA certificate, and this one is ECDSA
        assert "cipher suite" in trouble(port, caller, shows=True).cause


def test_tls_and_no_tls_do_not_meet(tmp_path: Path) -> None:
    with tls_listener(serving(tmp_path)) as port:
        plain = trouble(port, None, shows=False)
    assert "closed during the handshake" in plain.cause and "wss://" in plain.advice
    with tls_listener(None) as port:
        assert "--cert" in trouble(port, calling(tmp_path, None), shows=False).advice
        assert "log" in trouble(port, calling(tmp_path), shows=True).advice


def test_a_plain_port_is_told_by_its_answer(tmp_path: Path) -> None:
    async def run() -> None:
        async with SmallCsms().running() as csms:
            where = target(f"wss://127.0.0.1:{csms.port}", calling(tmp_path), shows=True)
            with pytest.raises(Unreachable) as caught:
                await Connection.open(where, lambda call: Answer())
            assert "pki issue" not in caught.value.advice
            assert "goes on trying" in caught.value.advice

    asyncio.run(run())


@pytest.mark.parametrize(("status", "word"), [(401, "cert bind CP-1"), (403, "mtls_binding_mismatch")])
def test_a_refusal_in_spite_of_the_certificate_is_explained(tmp_path: Path, status: int, word: str) -> None:
    async def run() -> None:
        csms = SmallCsms()
        csms.refuse_next = [(status, {})]
        async with csms.running(tls=serving(tmp_path)):
            with pytest.raises(Refused) as caught:
                await Connection.open(target(csms.url, calling(tmp_path), shows=True), lambda call: Answer())
        assert word in caught.value.advice and "cert bind CP-1" in caught.value.advice

    asyncio.run(run())


def test_who_shows_no_certificate_hears_that_one_may_be_wanted() -> None:
    advice = Refused("CP-1", "wss://h/CP-1", 403).advice
    assert "charger set CP-1 --allow-downgrade" in advice
    assert "mtls_missing_cert" in advice and "profile_downgrade" in advice and "charger enable CP-1" in advice


@pytest.mark.parametrize(
    ("serial_number", "cp_id", "said"),
    [
        ("x" * 25, "CP-1", "x" * 25),
        ("x" * 26, "CP-1", "CP-1"),
        (None, "CP-1", "CP-1"),
        ("", "CP-1", "CP-1"),
        ("x" * 26, "CP-" + "7" * 40, "CP-" + "7" * 22),
    ],
)
def test_a_serial_number_is_said_as_a_whole_or_not_at_all(serial_number: str | None, cp_id: str, said: str) -> None:
    assert Target("wss://h", cp_id, OcppVersion.V201, serial_number=serial_number).serial == said
