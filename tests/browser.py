"""A real browser for tests, with no window; where there is none, what is missing is named."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: Names of the program, the first that is there.
NAMES = ("chromium", "chromium-browser")


def missing(browser: str | None, driver: str | None) -> str:
    """Return why no browser can be driven: which of the two is not there; empty if both are."""
    packages = {"a browser (Debian: chromium)": browser, "its driver (chromium-driver)": driver}
    needed = " and ".join(name for name, path in packages.items() if not path)
    there = " and ".join(path for path in packages.values() if path)
    if not needed:
        return ""
    return f"needs {needed}" + (f"; there is {there}" if there else "")


@contextlib.contextmanager
def opened(profile: Path, *flags: str, **capabilities: Any) -> Iterator[Any]:
    """Open a browser whose files lie in ``profile``, or skip the test."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if reason := missing(browser, driver):
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}", *flags,
    ):  # fmt: skip
        options.add_argument(flag)
    for name, value in capabilities.items():
        options.set_capability(f"goog:{name}", value)
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield window
    finally:
        window.quit()
