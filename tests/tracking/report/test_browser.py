"""The report of a run that was trained, in a real browser.

No error, nothing asked of a network, every figure drawn; it fits a phone and a desk, is readable
in light and dark, can be used by keyboard, and can be printed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browser import missing, opened
from metric_lines import rows, write_run

from tisslm import ops
from tisslm.cli.main import main
from tisslm.tracking.report import write_report

TEXT = "".join(f"{i} green bottles hang on the wall, and {i} of them fall.\n" for i in range(60))
SETTINGS = (
    "data.path=text.txt", "model.n_layer=2", "model.n_head=2", "model.n_embd=16",
    "model.seq_len=16", "training.batch_size=4", "training.max_steps=30",
    "training.validation_frequency=10", "training.logging_steps=1", "training.monitor_steps=5",
    "training.output_dir=trained", 'log.monitors=["gradient_norms"]',
)  # fmt: skip
WIDTHS = {"phone": 360, "tablet": 800, "desk": 1280}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the addresses of three reports: trained, with every metric, compared."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "text.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ops.set_threads(1)
        with pytest.raises(SystemExit) as ended:
            main(["train", *(part for s in SETTINGS for part in ("--set", s))])
        ops.set_threads(None)
        assert ended.value.code == 0
        write_run(Path("whole"), rows(60, 1))
        trained = write_report(["trained"]).page
        whole = write_report(["whole"]).page
        both = write_report(["trained", "whole"]).page
        found = {"trained": trained, "whole": whole, "compared": both}
        return {name: page.resolve().as_uri() for name, page in found.items()}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    profile = tmp_path_factory.mktemp("profile")
    with opened(profile, loggingPrefs={"browser": "ALL", "performance": "ALL"}) as window:
        yield window


Show = Callable[..., Any]


@pytest.fixture
def show(browser: Any, pages: dict[str, str]) -> Show:
    """Return a function that opens a page at a width, in a colour scheme or on paper."""

    def open_page(name: str, width: int = 1280, scheme: str = "light", media: str = "") -> Any:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": [feature]}
        )
        browser.get(pages[name])
        return browser

    return open_page


def requests(browser: Any) -> set[str]:
    """Return the addresses that were asked for since the last call, data in the page aside.

    So is what the browser asks of itself for its own first page, which may still be loading.
    """
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    found = {
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    }
    return {url for url in found if not url.startswith(("data:", "chrome:"))}


NAMES = ("trained", "whole", "compared")


@pytest.mark.parametrize("name", NAMES)
def test_no_error_and_no_request(show: Show, browser: Any, pages: dict[str, str], name: str):
    requests(browser)
    browser.get_log("browser")
    show(name)
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    assert browser.get_log("browser") == []
    assert requests(browser) == {pages[name]}
    assert len(Path(unquote(pages[name].removeprefix("file://"))).read_bytes()) < 3_000_000


DRAWN = """
return [...document.querySelectorAll('figure')].map((figure) => {
  const svgs = [...figure.querySelectorAll('svg')].filter((s) => s.getBoundingClientRect().width);
  const outside = svgs.flatMap((svg) => {
    const area = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].filter((t) => {
      const box = t.getBoundingClientRect();
      return box.left < area.left - 3 || box.right > area.right + 3 || box.bottom > area.bottom + 3;
    }).map((t) => t.textContent);
  });
  const marks = svgs.flatMap((svg) => [...svg.querySelectorAll('path, image, use')]);
  const boxes = marks.map((m) => m.getBoundingClientRect());
  const seen = boxes.filter((b) => b.width + b.height > 2);
  const small = svgs.flatMap((svg) => [...svg.querySelectorAll('text')].map(
    (t) => t.getBoundingClientRect().height));
  return {id: figure.id, svgs: svgs.length, marks: seen.length, outside, small: Math.min(...small)};
});
"""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", WIDTHS)
def test_every_figure_is_drawn_and_fits(show: Show, name: str, size: str):
    page = show(name, WIDTHS[size])
    figures = page.execute_script(DRAWN)
    assert len(figures) > 8
    for figure in figures:
        assert figure["svgs"] == 1, figure
        assert figure["marks"] > 5, figure
        assert figure["outside"] == [], figure
        assert figure["small"] > 8, figure  # pixels of the lowest text
    root = "document.documentElement"
    width = page.execute_script(f"return {root}.scrollWidth - {root}.clientWidth")
    assert width == 0


COVERED = """
const figures = JSON.parse(document.getElementById('data').textContent);
return Object.entries(figures).filter(([, figure]) => figure.rows).map(([slug, figure]) => {
  const svg = document.querySelector(`#figure-${slug} svg.desk`);
  const area = svg.getBoundingClientRect();
  const cells = svg.querySelector('image').getBoundingClientRect();
  const [left, top, right, bottom] = figure.boxes[1];
  return Math.max(
    Math.abs(cells.left - area.left - left * area.width),
    Math.abs(cells.top - area.top - top * area.height),
    Math.abs(cells.right - area.left - right * area.width),
    Math.abs(cells.bottom - area.top - bottom * area.height),
  );
});
"""


def test_cells_of_heat_maps_fill_their_axes(show: Show):
    apart = show("whole").execute_script(COVERED)
    assert len(apart) == 11
    assert max(apart) < 2  # pixels, of more than a thousand


CONTRAST = """
const light = (color) => {
  const parts = color.match(/[\\d.]+/g).slice(0, 3).map((x) => {
    const c = x / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const back = light(getComputedStyle(document.body).backgroundColor);
const ratio = (color) => {
  const one = light(color);
  return (Math.max(one, back) + 0.05) / (Math.min(one, back) + 0.05);
};
const found = [];
for (const e of document.querySelectorAll('h1, h2, h3, p, a, td, th, dt, dd, summary, pre, text')) {
  if (!e.getClientRects().length || e.closest('.skip')) continue;
  const style = getComputedStyle(e);
  found.push([ratio(e.tagName === 'text' ? style.fill : style.color), e.outerHTML.slice(0, 80)]);
}
for (let i = 0; i < 8; i += 1) {
  const e = document.createElement('span');
  e.style.color = `var(--c${i})`;
  document.body.append(e);
  found.push([ratio(getComputedStyle(e).color), `line ${i}`]);
}
return [back, found];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_in_light_and_dark(show: Show, scheme: str):
    back, found = show("whole", scheme=scheme).execute_script(CONTRAST)
    assert back > 0.9 if scheme == "light" else back < 0.02
    assert len(found) > 100
    # WCAG 2.2, contrast of text, level AA
    assert [pair for pair in found if pair[0] < 4.5] == []


def press(page: Any, *keys: str) -> str:
    """Press keys one after the other, and return what the chosen figure then says."""
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(page).send_keys(key).perform()
    return page.execute_script(
        "return document.activeElement.parentElement.querySelector('output')?.textContent ?? ''"
    )


def test_values_are_read_by_keyboard(show: Show):
    from selenium.webdriver.common.keys import Keys

    page = show("whole")
    press(page, Keys.TAB)
    assert page.execute_script("return document.activeElement.textContent") == "Skip to the results"
    while page.execute_script("return document.activeElement.dataset.figure") != "loss":
        press(page, Keys.TAB)
    assert press(page) == ""
    first = press(page, Keys.HOME)
    assert re.fullmatch(r"step 1 \| training, as it is \S+ \| training, smoothed \S+", first)
    assert press(page, Keys.ARROW_RIGHT).startswith("step 2 |")
    assert " | validation " in press(page, Keys.END)
    assert press(page, Keys.ARROW_RIGHT).startswith("step 60 |")
    cursor = "return document.querySelector('#figure-loss .cursor').getBoundingClientRect().height"
    assert page.execute_script(cursor) > 50
    assert press(page, Keys.ESCAPE) == ""
    while page.execute_script("return document.activeElement.dataset.figure") != "grad-norms":
        press(page, Keys.TAB)
    words = r"step 20 \| embedding.token.weight: 0.\d+"
    assert re.fullmatch(words, press(page, Keys.HOME))
    below = press(page, Keys.ARROW_DOWN)
    assert re.fullmatch(r"step 20 \| blocks.0.attention.qkv.weight: 0.\d+", below)
    press(page, Keys.TAB)
    assert page.execute_script("return document.activeElement.tagName") == "SUMMARY"


def test_values_are_read_by_pointer(show: Show):
    from selenium.webdriver.common.action_chains import ActionChains

    page = show("trained")
    holder = page.find_element("css selector", "#figure-learning-rate .drawing")
    ActionChains(page).move_to_element(holder).perform()
    text = page.find_element("css selector", "#figure-learning-rate output").text
    step = int(re.match(r"step (\d+) \| learning rate ", text)[1])
    assert 13 <= step <= 18  # the middle of 30


def test_it_is_printed_on_white_without_what_is_for_the_screen(show: Show):
    page = show("whole", 794, scheme="dark", media="print")
    shown = "return getComputedStyle(document.querySelector('{}')).display"
    assert page.execute_script(shown.format("nav")) == "none"
    assert page.execute_script(shown.format("output")) == "none"
    back = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert back == "rgb(253, 253, 254)"
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 4


def test_it_is_whole_without_its_script(show: Show, browser: Any):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = show("trained")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    figures = page.execute_script(DRAWN)
    assert len(figures) > 8
    assert all(figure["marks"] > 5 for figure in figures)


@pytest.mark.parametrize(
    ("browser_at", "driver_at", "reason"),
    [
        ("/bin/chromium", "/bin/chromedriver", ""),
        (
            "/bin/chromium",
            None,
            "needs its driver (chromium-driver); there is /bin/chromium",
        ),
        (
            None,
            "/bin/chromedriver",
            "needs a browser (Debian: chromium); there is /bin/chromedriver",
        ),
        (None, None, "needs a browser (Debian: chromium) and its driver (chromium-driver)"),
    ],
)
def test_who_skips_says_what_is_missing(browser_at, driver_at, reason):
    assert missing(browser_at, driver_at) == reason
