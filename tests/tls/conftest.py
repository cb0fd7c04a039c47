"""Authorities and server certificates that all TLS tests share: RSA keys take their time."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.certificates import Authority, Issued
from tls_support import Files


@pytest.fixture(scope="session")
def root() -> Authority:
    return Authority("Example Root")


@pytest.fixture(scope="session")
def ec_server(root: Authority) -> Issued:
    return root.issue("gateway.example.com", sans=["gateway.example.com"], client=False)


@pytest.fixture(scope="session")
def rsa_server(root: Authority) -> Issued:
    return root.issue("gateway.example.com", key="rsa", sans=["gateway.example.com"], client=False)


@pytest.fixture
def files(tmp_path: Path, ec_server: Issued, rsa_server: Issued) -> Files:
    return Files(tmp_path, [ec_server, rsa_server])
