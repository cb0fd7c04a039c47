"""What Prometheus is told about certificates, authorities and revocation lists: how long they are good."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from ocpp_gateway.tls.facts import TlsFacts

_DAY = 86_400.0


def families(facts: TlsFacts, now: float) -> Iterator[Metric]:
    """The families for ``facts`` at ``now``, seconds since the epoch. Labels are from the operator's own files."""
    certificates = GaugeMetricFamily(
        "ocpp_tls_certificate_days_left", "Days until a certificate ends.", labels=["kind", "name"]
    )
    for kind, several in (("server", facts.certificates), ("authority", facts.authorities)):
        for name, not_after in {each.name: each.not_after for each in several}.items():
            certificates.add_metric([kind, name], (not_after - now) / _DAY)
    yield certificates

    ages = GaugeMetricFamily("ocpp_tls_crl_age_seconds", "Age of a revocation list.", labels=["issuer"])
    left = GaugeMetricFamily(
        "ocpp_tls_crl_days_left", "Days until a revocation list has to be replaced.", labels=["issuer"]
    )
    for issuer, crl in {each.issuer: each for each in facts.revocation_lists}.items():
        ages.add_metric([issuer], now - crl.last_update)
        if crl.next_update is not None:
            left.add_metric([issuer], (crl.next_update - now) / _DAY)
    yield ages
    yield left
    yield GaugeMetricFamily(
        "ocpp_tls_files_broken",
        "1 while the TLS files cannot be used and those from before are in force.",
        value=float(facts.is_broken),
    )
