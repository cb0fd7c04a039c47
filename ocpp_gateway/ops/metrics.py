"""Counters of this node, for Prometheus.

The message path adds to plain dicts; prometheus-client's part begins at the scrape. All label values come from our
own tables, never from a peer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import define, field
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from ocpp_gateway.ocppj.actions import csms_actions, send_actions, station_actions
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.session.reasons import CloseReason

_LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_DURATION_SECONDS = (1.0, 10.0, 60.0, 600.0, 3600.0, 86_400.0, 604_800.0)

OTHER_ACTION = "other"
"""Stands for every action that no version knows."""


@define(eq=False)
class _Histogram:
    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        running, rows = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            rows.append((bound, float(running)))
        return rows


@define(eq=False)
class Metrics:
    """What is counted. ``pending`` tells how many records wait for Kafka, ``kafka_writable`` whether it takes any."""

    pending: Callable[[], int] = lambda: 0
    kafka_writable: Callable[[], bool] = lambda: True
    sockets: Callable[[], Mapping[str, int]] = dict
    """How many connections are in which state, be they WebSockets or not yet."""

    checking: Callable[[], int] = lambda: 0
    timers: Callable[[], int] = lambda: 0
    redis_pending: Callable[[], int] = lambda: 0
    tls: Callable[[], Iterable[Metric]] = tuple
    """Families about TLS files, where there are any."""

    commands_in_flight: Callable[[], Mapping[str, int]] = dict
    """How many are under way, as ``dispatching`` (from Kafka) and as ``executing`` (towards a charge point)."""

    _connections: Counter[OcppVersion] = field(factory=Counter)
    _closes: Counter[tuple[OcppVersion, str]] = field(
        # All from the beginning: of a series that begins with 1, Prometheus sees no increase.
        factory=lambda: Counter({(version, reason.label): 0 for version in OcppVersion for reason in CloseReason})
    )
    _handshakes: Counter[str] = field(factory=Counter)
    _tls_handshakes: Counter[tuple[str, str]] = field(factory=Counter)
    _security_events: Counter[tuple[str, str]] = field(factory=Counter)
    _bans: Counter[str] = field(factory=lambda: Counter({"address": 0, "charge_point": 0}))
    _commands: Counter[tuple[str, str]] = field(factory=Counter)
    _unusable_commands: Counter[str] = field(factory=Counter)
    _csms_answers: Counter[tuple[str, str]] = field(factory=Counter)
    _csms_records: Counter[str] = field(factory=Counter)
    _calls: dict[tuple[OcppVersion, str, str], int] = field(factory=dict)
    _bad_frames: Counter[tuple[OcppVersion, str]] = field(factory=Counter)
    _quirks: Counter[tuple[OcppVersion | None, Quirk]] = field(factory=Counter)
    _publish: _Histogram = field(factory=lambda: _Histogram(_LATENCY_SECONDS))
    _durations: _Histogram = field(factory=lambda: _Histogram(_DURATION_SECONDS))
    _registry: CollectorRegistry = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    # What is counted, by whom: routing.uplink, session, websocket.

    def count_call(self, version: OcppVersion, action: str, outcome: str) -> None:
        """A CALL or SEND ended as ``outcome``."""
        key = (version, action, outcome)
        try:
            self._calls[key] += 1
        except KeyError:
            if not _is_action(version, action):
                key = (version, OTHER_ACTION, outcome)
            self._calls[key] = self._calls.get(key, 0) + 1

    def observe_publish(self, seconds: float) -> None:
        """From hand-over to Kafka's confirmation."""
        self._publish.observe(seconds)

    def count_quirk(self, version: OcppVersion | None, quirk: Quirk) -> None:
        """A tolerated deviation."""
        self._quirks[version, quirk] += 1

    def count_bad_frame(self, version: OcppVersion, reason: str) -> None:
        """A message that was no frame, or an answer to nothing."""
        self._bad_frames[version, reason] += 1

    def count_handshake(self, reason: str) -> None:
        """``accepted``, or the reason of the refusal."""
        self._handshakes[reason] += 1

    def count_tls(self, version: str, cipher: str) -> None:
        """A TLS handshake was done."""
        self._tls_handshakes[version, cipher] += 1

    def count_security_event(self, event_type: str, outcome: str) -> None:
        """A security event was ``published`` or ``dropped``."""
        self._security_events[event_type, outcome] += 1

    def count_ban(self, scope: str) -> None:
        """A ban began, of an ``address`` or of a ``charge_point`` at one."""
        self._bans[scope] += 1

    def count_command(self, event_type: str, reason: str) -> None:
        """A command ended here with this event."""
        self._commands[event_type, reason] += 1

    def count_unusable_command(self, reason: str) -> None:
        """A record of the commands' topic does not even say which command it is."""
        self._unusable_commands[reason] += 1

    def count_csms_answer(self, action: str, outcome: str) -> None:
        """A question to the CSMS ended as ``outcome`` (``csms.asking``)."""
        self._csms_answers[action, outcome] += 1

    def count_csms_record(self, outcome: str) -> None:
        """A record of the reply topic was read (``csms.replies``)."""
        self._csms_records[outcome] += 1

    def session_lost(self, version: OcppVersion) -> None:
        """A session of a node that died was swept up here."""
        self._closes[version, CloseReason.NODE_LOST.label] += 1

    def session_opened(self, version: OcppVersion) -> None:
        """A session began."""
        self._connections[version] += 1

    def session_closed(self, version: OcppVersion, reason: str, seconds: float) -> None:
        """A session ended after ``seconds``."""
        self._connections[version] -= 1
        self._closes[version, reason] += 1
        self._durations.observe(seconds)

    # The scrape.

    def exposition(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """prometheus-client's: every family."""
        connections = GaugeMetricFamily("ocpp_connections", "Connected charge points.", labels=["version"])
        for version in OcppVersion:
            connections.add_metric([version.label], self._connections[version])
        yield connections

        sockets = GaugeMetricFamily("ocpp_sockets", "Connections, be they WebSockets or not yet.", labels=["state"])
        for state, number in self.sockets().items():
            sockets.add_metric([state], number)
        yield sockets

        yield GaugeMetricFamily("ocpp_handshakes_checking", "Handshakes under way.", value=self.checking())
        yield GaugeMetricFamily("ocpp_timers", "Timers of the reactor.", value=self.timers())
        yield GaugeMetricFamily("redis_commands_pending", "Commands that wait for Redis.", value=self.redis_pending())

        bans = CounterMetricFamily("ocpp_bans", "Bans that this node has pronounced.", labels=["scope"])
        for scope, count in self._bans.items():
            bans.add_metric([scope], count)
        yield bans

        handshakes = CounterMetricFamily(
            "ocpp_handshakes", "Opening handshakes by result.", labels=["result", "reason"]
        )
        for reason, count in self._handshakes.items():
            handshakes.add_metric(["accepted" if reason == "accepted" else "refused", reason], count)
        yield handshakes

        tls = CounterMetricFamily("ocpp_tls_handshakes", "TLS handshakes done.", labels=["version", "cipher"])
        for (tls_version, cipher), count in self._tls_handshakes.items():
            tls.add_metric([tls_version, cipher], count)
        yield tls
        yield from self.tls()

        events = CounterMetricFamily(
            "ocpp_security_events", "Security events by what became of them.", labels=["type", "outcome"]
        )
        for (event_type, outcome), count in self._security_events.items():
            events.add_metric([event_type, outcome], count)
        yield events

        commands = CounterMetricFamily(
            "ocpp_commands", "Commands of the back end by their final event.", labels=["event", "reason"]
        )
        for (event_type, why), count in self._commands.items():
            commands.add_metric([event_type, why], count)
        yield commands
        unusable = CounterMetricFamily(
            "ocpp_unusable_commands", "Records that do not name a command.", labels=["reason"]
        )
        for why, count in self._unusable_commands.items():
            unusable.add_metric([why], count)
        yield unusable
        in_flight = GaugeMetricFamily("ocpp_commands_in_flight", "Commands under way.", labels=["role"])
        for role, number in self.commands_in_flight().items():
            in_flight.add_metric([role], number)
        yield in_flight

        answers = CounterMetricFamily("ocpp_csms_answers", "Questions to the CSMS.", labels=["action", "outcome"])
        for (action, outcome), count in self._csms_answers.items():
            answers.add_metric([action, outcome], count)
        yield answers
        records = CounterMetricFamily("ocpp_csms_records", "Records of the CSMS's answers.", labels=["outcome"])
        for outcome, count in self._csms_records.items():
            records.add_metric([outcome], count)
        yield records

        calls = CounterMetricFamily(
            "ocpp_calls", "CALLs of charge points by outcome.", labels=["version", "action", "outcome"]
        )
        for (version, action, outcome), count in self._calls.items():
            calls.add_metric([version.label, action, outcome], count)
        yield calls

        bad = CounterMetricFamily(
            "ocpp_bad_frames", "Messages that were no usable frame.", labels=["version", "reason"]
        )
        for (version, reason), count in self._bad_frames.items():
            bad.add_metric([version.label, reason], count)
        yield bad

        quirks = CounterMetricFamily("ocpp_quirks", "Tolerated deviations.", labels=["version", "quirk"])
        for (spoken, quirk), count in self._quirks.items():
            quirks.add_metric([spoken.label if spoken else "", quirk.value], count)
        yield quirks

        closes = CounterMetricFamily("ocpp_closes", "Ended sessions by reason.", labels=["version", "reason"])
        for (version, reason), count in self._closes.items():
            closes.add_metric([version.label, reason], count)
        yield closes

        yield HistogramMetricFamily(
            "ocpp_session_duration_seconds",
            "Length of ended sessions.",
            buckets=self._durations.buckets(),
            sum_value=self._durations.total,
        )
        yield HistogramMetricFamily(
            "ocpp_publish_seconds",
            "From a CALL's arrival to Kafka's confirmation of its event.",
            buckets=self._publish.buckets(),
            sum_value=self._publish.total,
        )
        yield GaugeMetricFamily("kafka_records_pending", "Records that wait for Kafka.", value=self.pending())
        yield GaugeMetricFamily("kafka_writable", "1 while Kafka takes records.", value=float(self.kafka_writable()))


def _is_action(version: OcppVersion, action: str) -> bool:
    return action in station_actions(version) or action in csms_actions(version) or action in send_actions(version)
