"""What Prometheus reads at /metrics. One registry per gateway: two in one process share nothing.

No label carries a device's name or anything else a device may choose freely.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """Everything the gateway counts. The features see it as the small protocols they define."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._batches = self._counter("longstop_batches", "Batches of records heard", "outcome")
        self._records = self._counter("longstop_records", "Records counted")
        self._letters = self._counter(
            "longstop_dead_letters", "Messages kept because they could not be taken in", "code"
        )
        self._conflicts = self._counter(
            "longstop_conflicts", "Batches that clash with one taken in before; alarm on any"
        )
        self._skipped = self._counter(
            "longstop_skipped_inputs", "Inputs that sources of devices left out", "source", "reason"
        )
        self._health = self._counter(
            "longstop_health_records",
            "Health records of devices, by how much the device spared itself",
            "level",
        )
        self._escalations = self._counter(
            "longstop_escalations", "Hard cases by what became of them", "task", "outcome"
        )
        self._messages = self._counter(
            "longstop_messages", "Messages of devices by what carried them", "link"
        )
        self._dropped = self._counter(
            "longstop_mqtt_dropped", "MQTT messages not answered, by reason", "reason"
        )
        self._broker_starts = self._counter("longstop_broker_starts", "Times a broker was started")
        self._runs = Histogram(
            "longstop_model_run_seconds",
            "Time in the cloud model, per run",
            ["task"],
            registry=self._registry,
            buckets=_SECONDS,
        )

    def page(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

    def batch_heard(self, outcome: str, records: int) -> None:
        self._batches.labels(outcome).inc()
        if outcome == "committed":
            self._records.inc(records)
        if outcome == "conflict":
            self._conflicts.inc()

    def dead_letter_kept(self, code: str) -> None:
        self._letters.labels(code).inc()

    def inputs_skipped(self, source: str, reason: str, count: int) -> None:
        self._skipped.labels(source, reason).inc(count)

    def health_heard(self, level: str) -> None:
        self._health.labels(level).inc()

    def escalation_ended(self, task: str, outcome: str) -> None:
        self._escalations.labels(task, outcome).inc()

    def model_ran(self, task: str, samples: int, run_us: int) -> None:
        del samples
        self._runs.labels(task).observe(run_us / 1e6)

    def message_heard(self, link: str) -> None:
        self._messages.labels(link).inc()

    def message_dropped(self, reason: str) -> None:
        self._dropped.labels(reason).inc()

    def broker_started(self) -> None:
        self._broker_starts.inc()

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(name, says, labels, registry=self._registry)
