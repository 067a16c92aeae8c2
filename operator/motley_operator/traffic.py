"""The door to the routers' metrics: SLO attainment per Model over the routers' window, all replicas together."""

import logging
import math
from collections.abc import Iterable

import httpx
from prometheus_client.parser import text_string_to_metric_families

from motley_operator.fleet import TrafficView

log = logging.getLogger(__name__)
ATTAINMENT = "motley_router_slo_attainment_ratio"
REQUESTS = "motley_router_slo_window_requests"
TIMEOUT_SECONDS = 2.0


def observed(addresses: Iterable[str]) -> dict[str, TrafficView]:
    """From every router (`host:port`); one that does not answer is left out, the others know their part."""
    texts = []
    with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        for address in addresses:
            try:
                texts.append(client.get(f"http://{address}/metrics").raise_for_status().text)
            except httpx.HTTPError as error:
                log.warning("reading metrics of router %s: %s", address, error)
    return merged(texts)


def merged(texts: Iterable[str]) -> dict[str, TrafficView]:
    """Attainment weighted by requests; by Model. A text that is no metrics is left out."""
    requests: dict[str, float] = {}
    attained: dict[str, float] = {}
    for text in texts:
        try:
            ratio, count = _by_model(text, ATTAINMENT), _by_model(text, REQUESTS)
        except (ValueError, LookupError) as error:  # whatever answers at a router's address
            log.warning("reading metrics of a router: %s", error)
            continue
        for model, number in count.items():
            if 0 < number < math.inf and 0 <= ratio.get(model, math.nan) <= 1:
                requests[model] = requests.get(model, 0.0) + number
                attained[model] = attained.get(model, 0.0) + number * ratio[model]
    return {model: TrafficView(number, attained[model] / number) for model, number in requests.items()}


def _by_model(text: str, name: str) -> dict[str, float]:
    return {
        sample.labels["model"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and "model" in sample.labels
    }
