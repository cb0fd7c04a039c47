"""Settings: every value checked, every problem told at once, docs true."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.python import usage

from ocpp_gateway.auth.hashing import ScryptParameters
from ocpp_gateway.environment import parse, read, variable, without_effect
from ocpp_gateway.errors import ConfigError
from ocpp_gateway.handshake.reasons import REFUSALS
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.settings import Settings
from ocpp_gateway.tap import Options

PROJECT = Path(__file__).resolve().parent.parent
VARIABLES = [variable(field.name) for field in attrs.fields(Settings)]


def test_the_defaults_are_the_contracts() -> None:
    settings = parse({})
    assert (settings.service_name, settings.port, settings.websocket_ocpp_port) == ("ocpp-gateway", 3001, 8080)
    assert (settings.kafka_brokers, settings.redis_url) == ("localhost:9092", "redis://localhost:6379")
    assert settings.flood_log_cooldown == 300


def test_two_nodes_get_two_ids() -> None:
    assert parse({}).node_id != parse({}).node_id


def test_an_empty_value_counts_as_not_given() -> None:
    assert parse(dict.fromkeys(VARIABLES, "")).port == 3001


def test_secrets_are_not_in_the_repr() -> None:
    told = repr(parse({"REDIS_URL": "redis://user:hunter2@redis", "OCPP_TLS_KEY_PASSWORD": "hunter2"}))
    assert "hunter2" not in told


def test_a_secret_is_not_repeated_in_a_problem() -> None:
    with pytest.raises(ConfigError) as raised:
        parse({"HEALTH_METRICS_AUTH_TOKEN": "hunter2\n"})
    assert "HEALTH_METRICS_AUTH_TOKEN" in str(raised.value)
    assert "hunter2" not in str(raised.value)


@given(st.dictionaries(st.sampled_from(VARIABLES), st.text(max_size=12), max_size=8))
def test_whatever_is_set_gives_settings_or_named_problems(environ: dict[str, str]) -> None:
    _, problems = read(environ)
    for problem in problems:
        assert problem.split()[0] in VARIABLES


def test_contradictions_are_problems() -> None:
    _, problems = read({"NODE_TTL_SECONDS": "10", "PORT": "8080", "OCPP_AUTH_SCRYPT_N": "1000"})
    assert [problem.split()[0] for problem in problems] == ["NODE_TTL_SECONDS", "PORT", "OCPP_AUTH_SCRYPT_N"]


def test_what_nothing_reads_is_named() -> None:
    environ = {"OCPP_HARTBEAT_INTERVAL": "3", "OCPP_CSMS_TIMEOUT_": "3", "OCPP_AUTH_MODE": "basic"}
    assert without_effect(environ) == ["OCPP_CSMS_TIMEOUT_", "OCPP_HARTBEAT_INTERVAL"]


def test_a_value_per_action() -> None:
    environ = {
        "OCPP_CSMS_TIMEOUT_AUTHORIZE": "1.5",
        "OCPP_CSMS_TIMEOUT_START_TRANSACTION": "5",
        "OCPP_CSMS_FALLBACK_BOOTNOTIFICATION": "Close",
        "OCPP_CSMS_FALLBACK_AUTHORIZE": "never",
    }
    settings, problems = read(environ)
    assert settings.ocpp_csms_timeouts == (("AUTHORIZE", 1.5), ("STARTTRANSACTION", 5.0))
    assert settings.ocpp_csms_fallbacks == (("BOOTNOTIFICATION", "close"),)
    assert problems == ["OCPP_CSMS_FALLBACK_AUTHORIZE must be one of gateway, error, close (it is 'never')"]
    assert without_effect(environ) == []


def test_what_this_release_cannot_do_may_be_switched_off() -> None:
    environ = {"OCPP_TLS_ENABLED": "false", "OCPP_NO_SUCH": "", "OCPP_CSMS_TIMEOUT_AUTHORIZE": ""}
    assert without_effect(environ) == []
    assert read(environ)[1] == []


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OCPP_AUTH_MODE": "mtls"}, ["OCPP_AUTH_MODE"]),
        ({"OCPP_TLS_ENABLED": "true"}, ["OCPP_TLS_CERT_PATH", "OCPP_TLS_KEY_PATH"]),
        ({"OCPP_TLS_CLIENT_AUTH": "true"}, ["OCPP_TLS_CLIENT_AUTH"]),
        (
            {"WEBSOCKET_OCPP_EXTRA_PORTS": "9443=required"},
            ["OCPP_TLS_CERT_PATH", "OCPP_TLS_KEY_PATH", "OCPP_TLS_CA_PATH"],
        ),
        ({"WEBSOCKET_OCPP_EXTRA_PORTS": "8080=plain"}, ["WEBSOCKET_OCPP_EXTRA_PORTS"]),
        ({"WEBSOCKET_OCPP_EXTRA_PORTS": "9080=plain,9080=off"}, ["WEBSOCKET_OCPP_EXTRA_PORTS"]),
        ({"WEBSOCKET_OCPP_EXTRA_PORTS": "9080=tls"}, ["WEBSOCKET_OCPP_EXTRA_PORTS"]),
        ({"OCPP_TLS_CRL_PATH": __file__}, ["OCPP_TLS_CRL_PATH"]),
        ({"OCPP_TLS_MIN_VERSION": "1.1"}, ["OCPP_TLS_MIN_VERSION"]),
        ({"OCPP_PROXY_PROTOCOL": "true"}, ["OCPP_PROXY_PROTOCOL"]),
        ({"OCPP_TRUST_PROXY": "true"}, ["OCPP_TRUST_PROXY"]),
        ({"OCPP_TRUST_PROXY": "true", "OCPP_TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.1"}, []),
    ],
)
def test_what_does_not_fit_together_is_named(environ: dict[str, str], named: list[str]) -> None:
    assert [problem.split()[0] for problem in read(environ)[1]] == named


def test_the_contracts_spellings_are_understood() -> None:
    files = dict.fromkeys(("OCPP_TLS_CERT_PATH", "OCPP_TLS_KEY_PATH", "OCPP_TLS_CA_PATH"), __file__)
    tls = {**files, "OCPP_TLS_ENABLED": "true"}
    settings = parse({**tls, "OCPP_TLS_CLIENT_AUTH": "TRUE", "OCPP_TLS_MIN_VERSION": "TLSv1.3"})
    assert (settings.ocpp_tls_client_auth, settings.ocpp_tls_min_version) == ("required", "1.3")
    assert parse({"OCPP_TLS_CLIENT_AUTH": "false"}).ocpp_tls_client_auth == "off"
    ports = parse({**files, "WEBSOCKET_OCPP_EXTRA_PORTS": "9080=plain, 9443=Required"}).websocket_ocpp_extra_ports
    assert ports == ((9080, "plain"), (9443, "required"))


@pytest.mark.parametrize(
    ("ciphers", "problem"), [("NO-SUCH", "OCPP_TLS_CIPHERS"), ("ALL:@SECLEVEL=0", "OCPP_TLS_CIPHERS")]
)
def test_weak_ciphers_do_not_start(monkeypatch: pytest.MonkeyPatch, ciphers: str, problem: str) -> None:
    monkeypatch.setenv("OCPP_TLS_CIPHERS", ciphers)
    with pytest.raises(usage.UsageError, match=problem):
        Options().parseOptions([])


def test_organisations_that_cannot_be_read_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCPP_ALLOWED_ORGANIZATIONS", "=Acme")
    with pytest.raises(usage.UsageError, match="OCPP_ALLOWED_ORGANIZATIONS"):
        Options().parseOptions([])


@given(
    n=st.integers(1, 20).map(lambda exponent: 2**exponent),
    r=st.integers(1, 32),
    p=st.integers(1, 16),
    key_length=st.integers(16, 64),
)
@example(n=2**20, r=8, p=1, key_length=32)
@example(n=2**18, r=31, p=16, key_length=32)
def test_scrypt_that_cannot_work_is_a_problem_and_nothing_else_is(n: int, r: int, p: int, key_length: int) -> None:
    given_values = {"N": n, "R": r, "P": p, "KEYLEN": key_length}
    _, problems = read({f"OCPP_AUTH_SCRYPT_{name}": str(value) for name, value in given_values.items()})
    try:
        ScryptParameters(n=n, r=r, p=p, key_length=key_length)
    except ValueError:
        assert [problem.split()[0] for problem in problems] == ["OCPP_AUTH_SCRYPT_N"]
    else:
        assert problems == []


def test_the_readme_lists_every_setting_with_its_help() -> None:
    table = (PROJECT / "README.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+(?:<ACTION>)?)` \| .*? \| ([^|]*) \|$", table, re.MULTILINE)
    assert rows == [(variable(field.name), field.metadata["help"]) for field in attrs.fields(Settings)]


def test_the_docs_list_every_reason() -> None:
    operations = (PROJECT / "docs/OPERATIONS.md").read_text()
    for row in REFUSALS.values():
        assert f"| `{row.reason}` | {row.status} | {row.meaning} |" in operations
    wire = (PROJECT / "docs/WIRE.md").read_text()
    for reason in CloseReason:
        assert f"`{reason.label}`" in wire


def test_the_sample_settings_are_valid() -> None:
    lines = (PROJECT / "etc/ocpp-gateway.env").read_text().splitlines()
    environ = dict(line.lstrip("#").split("=", 1) for line in lines if re.match(r"#?[A-Z_]+=", line))
    for name in [name for name, value in environ.items() if value.startswith("/")]:
        # Names files of the installed system; all that matters here is that there are some.
        environ[name] = ",".join([__file__] * len(environ[name].split(",")))
    parse(environ)
    assert without_effect(environ) == []


def test_records_must_have_room_for_the_longest_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    properties = tmp_path / "kafka.properties"
    properties.write_text("message.max.bytes=3000000\n")
    monkeypatch.setenv("OCPP_MAX_PAYLOAD_BYTES", "1000000")
    with pytest.raises(usage.UsageError, match=r"OCPP_MAX_PAYLOAD_BYTES needs records of up to 2008192 bytes"):
        Options().parseOptions([])
    monkeypatch.setenv("KAFKA_CONFIG_FILE", str(properties))
    Options().parseOptions([])


def test_the_docs_list_every_log_event() -> None:
    operations = (PROJECT / "docs/OPERATIONS.md").read_text()
    sources = [path.read_text() for path in (PROJECT / "ocpp_gateway").rglob("*.py")]
    events = {name for source in sources for name in re.findall(r'event="([a-z_.]+)"', source)}
    assert len(events) > 20
    assert [name for name in sorted(events) if f"`{name}`" not in operations] == []
