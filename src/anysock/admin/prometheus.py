"""A snapshot as Prometheus wants it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.exposition import generate_latest

from anysock.telemetry.counters import DURATION_BUCKETS
from anysock.telemetry.metrics import METRICS, Kind, Metric, Snapshot

#: The content type of `exposition`. Every Prometheus takes it. The header Accept is not looked at,
#: since the library (0.26) fails at one that it does not expect.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(snapshot: Snapshot) -> bytes:
    """The text of `snapshot`, in Prometheus's own format, version 0.0.4."""
    return generate_latest(_Collector(snapshot))


class _Collector:
    """What prometheus-client calls a collector, of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            if metric.key in self._snapshot:
                yield self._family(metric)

    def _family(self, metric: Metric) -> Family:
        value = self._snapshot[metric.key]
        if metric.kind is Kind.HISTOGRAM:
            bounds = [*(str(float(bound)) for bound in DURATION_BUCKETS), "+Inf"]
            buckets = list(zip(bounds, itertools.accumulate(value), strict=True))
            return HistogramMetricFamily(
                metric.name, metric.help, buckets=buckets, sum_value=self._snapshot["seconds"]
            )
        make = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
        if metric.label is None:
            return make(metric.name, metric.help, value=value)
        family = make(metric.name, metric.help, labels=[metric.label])
        for name, count in sorted(value.items()):
            family.add_metric([name], count)
        return family
