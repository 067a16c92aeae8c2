"""As root everything can run: a test that is skipped then is a failure, not a silence."""

import os
from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    if report.skipped and os.geteuid() == 0:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although there is root: {report.longrepr}"
    return report
