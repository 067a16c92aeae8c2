"""When and where a table was measured: what a benchmark prints first."""

import os
import platform
from datetime import UTC, datetime


def load() -> str:
    """Over 1, 5 and 15 minutes."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


def measured_on() -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, {os.cpu_count()} cores, load {load()}, "
        f"Python {platform.python_version()}"
    )
