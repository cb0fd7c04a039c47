from __future__ import annotations

import time

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.auth.names import is_same_name, parse_name

CN, ORG, OU, C = "2.5.4.3", "2.5.4.10", "2.5.4.11", "2.5.4.6"

# The subject of one certificate, as OpenSSL 3.0 and `cryptography` print it in each of their ways.
AWKWARD = {
    "cryptography": r"CN=\#CP-1,1.2.840.113549.1.9.1=a@b,2.5.4.5=123,OU=\ two \ ,"
    r"O=Zoë\, \"Ltd\"\; \+ \<x\> \\ #1/2,C=NL",
    "-nameopt RFC2253": r"CN=\#CP-1,emailAddress=a@b,serialNumber=123,OU=\ two \ ,"
    r"O=Zo\C3\AB\, \"Ltd\"\; \+ \<x\> \\ #1/2,C=NL",
    "-nameopt oneline": r'C = NL, O = "Zo\C3\AB, \"Ltd\"; + <x> \\ #1/2", OU = " two  ", serialNumber = 123, '
    r'emailAddress = a@b, CN = "#CP-1"',
    "-nameopt oneline,utf8,-esc_msb": r'C = NL, O = "Zoë, \"Ltd\"; + <x> \\ #1/2", OU = " two  ", serialNumber = 123, '
    r'emailAddress = a@b, CN = "#CP-1"',
    "-nameopt compat": r'/C=NL/O=Zo\xC3\xAB, "Ltd"; \+ <x> \ #1\/2/OU= two  /serialNumber=123/emailAddress=a@b'
    "/CN=#CP-1",
}


def is_same(one: str, other: str) -> bool:
    parsed_one, parsed_other = parse_name(one), parse_name(other)
    assert parsed_one is not None, one
    assert parsed_other is not None, other
    return is_same_name(parsed_one, parsed_other)


@pytest.mark.parametrize("way", AWKWARD)
def test_every_way_of_the_tools_to_print_a_name_is_the_same_name(way: str) -> None:
    assert all(is_same(AWKWARD[way], other) for other in AWKWARD.values())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CN=a", [{(CN, "a")}]),
        (" cn = a , O = b c ", [{(CN, "a")}, {(ORG, "b c")}]),
        ("CN=a;O=b", [{(CN, "a")}, {(ORG, "b")}]),
        ("CN=", [{(CN, "")}]),
        ("CN=a=b", [{(CN, "a=b")}]),
        ("commonName=a", [{(CN, "a")}]),
        ("2.5.4.3=a", [{(CN, "a")}]),
        ("OID.2.5.4.3=a", [{(CN, "a")}]),
        ("1.3.6.1.4.1.99999.1=a", [{("1.3.6.1.4.1.99999.1", "a")}]),
        ("CN=a+OU=b,O=c", [{(CN, "a"), (OU, "b")}, {(ORG, "c")}]),
        ("OU = b + CN = a, O = c", [{(CN, "a"), (OU, "b")}, {(ORG, "c")}]),
        (r"CN=a\,O\=b", [{(CN, "a,O=b")}]),
        (r"CN=a\ ", [{(CN, "a ")}]),
        (r"CN=a\   ", [{(CN, "a ")}]),
        ("CN=a\\\\  ", [{(CN, "a\\")}]),
        (r"CN=\C4\8d", [{(CN, "č")}]),
        ('CN=" a, b "', [{(CN, " a, b ")}]),
        (r'CN="a\"b"', [{(CN, 'a"b')}]),
        (r"CN=\#0401", [{(CN, "#0401")}]),
        ("/CN=a", [{(CN, "a")}]),
        ("/C=NL/O=a/b/CN=x, y", [{(C, "NL")}, {(ORG, "a/b")}, {(CN, "x, y")}]),
        (r"/CN=\xC4\x8D", [{(CN, "č")}]),
    ],
)
def test_what_a_spelling_says(text: str, name: list[set[tuple[str, str]]]) -> None:
    assert parse_name(text) == tuple(frozenset(attributes) for attributes in name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "//",
        "CP-001",
        "CN",
        "=a",
        "CN=a,",
        ",CN=a",
        "CN=a,,O=b",
        "CN=a+",
        "CN=a\\",
        'CN="a',
        'CN="a"b',
        'CN=a"b"',
        "CN=#0C0161",
        r"CN=\FF",
        r"/CN=\xFF",
        "CN=a,O=\ud800\\,",
        "madeUp=a",
        "CN=a,madeUp=b",
        "/CN=a/madeUp=b",
        "2=a",
        "2..5=a",
        "/x/CN=a",
        "x/CN=a",
        "CN a",
    ],
)
def test_what_is_no_name_that_we_can_compare(text: str) -> None:
    assert parse_name(text) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("CN=a,O=b,C=NL", "CN=a,O=b,C=NL", True),
        ("CN=a,O=b,C=NL", "C=NL,O=b,CN=a", True),
        ("CN=a,O=b,C=NL", "/C=NL/O=b/CN=a", True),
        ("CN=a,O=b,C=NL", "O=b,CN=a,C=NL", False),
        ("CN=a,O=b,C=NL", "C=NL,CN=a,O=b", False),
        ("CN=a,O=b", "CN=a", False),
        ("CN=a,O=b", "CN=a,O=b,O=b", False),
        ("CN=a,O=b", "CN=a+O=b", False),
        ("CN=a+OU=c,O=b", "O=b,OU=c+CN=a", True),
        ("CN=a", "CN=A", False),
        ("CN=a,O=b", "OU=a,O=b", False),
        (r"CN=a\,O=b", "CN=a,O=b", False),
        (r"CN=a\ ", "CN=a", False),
        (r"CN=a\00", "CN=a", False),
    ],
)
def test_which_names_are_the_same(one: str, other: str, same: bool) -> None:
    assert is_same(one, other) is same


TYPES = [
    (NameOID.COMMON_NAME, "CN"),
    (NameOID.ORGANIZATION_NAME, "O"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "OU"),
    (NameOID.LOCALITY_NAME, "L"),
    (NameOID.SERIAL_NUMBER, "serialNumber"),
    (NameOID.USER_ID, "UID"),
]
values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.text(
    ' ,;+"\\#=/<>a0\x00', min_size=1, max_size=8
)
# Of one blank alone, cryptography 45 writes a backslash and a blank.
attributes = st.tuples(st.sampled_from(TYPES), values.filter(lambda value: value != " "))
names = st.lists(st.lists(attributes, min_size=1, max_size=2, unique=True), min_size=1, max_size=4)


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def in_hex(value: str) -> str:
    return "".join(f"\\{byte:02x}" for byte in value.encode())


@given(names)
def test_a_name_of_a_certificate_is_read_back_in_any_spelling(
    name: list[list[tuple[tuple[x509.ObjectIdentifier, str], str]]],
) -> None:
    certified = x509.Name(
        x509.RelativeDistinguishedName(
            [x509.NameAttribute(oid, value, _validate=False) for (oid, _), value in relative]
        )
        for relative in name
    )
    expected = tuple(frozenset((oid.dotted_string, value) for (oid, _), value in relative) for relative in name)
    assert parse_name(certified.rfc4514_string()) == expected[::-1]
    for spelled in (quoted, in_hex):
        for equals, plus, comma in ((" = ", " + ", ", "), ("=", "+", ",")):
            text = comma.join(plus.join(f"{kind}{equals}{spelled(value)}" for (_, kind), value in rdn) for rdn in name)
            assert parse_name(text) == expected


@given(st.text(max_size=60) | st.text('CNO=,;+"\\/# x4', max_size=30))
def test_any_text_is_a_name_or_none(text: str) -> None:
    name = parse_name(text)
    assert name is None or all(name)


@pytest.mark.parametrize("unit", [" ", "\\", '"', "/", "CN=", "/CN=", "a+", "1.", "=", "\\ ", '"\\'])
def test_a_long_text_takes_no_longer_than_it_must(unit: str) -> None:
    began = time.monotonic()
    for text in (unit * 20_000, "CN=" + unit * 20_000, "CN=a" + unit * 20_000 + '"'):
        parse_name(text)
    assert time.monotonic() - began < 2
