"""Takes the pictures of the dashboard for the documentation, from the jobs of the demo.

`bin/screenshots [FOLDER [SECONDS]]` runs it; SECONDS is how long the demo goes on before.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent.parent
READY_S, STEP_MS = 120.0, 10_000
WIDTHS = {1400: 900, 390: 844}
# Colours of a picture: enough for text and flat areas, and a third of the size.
COLOURS = 128
# Shows paths and the host's name as any other host has them.
OF_ANY_HOST = """(names) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    for (const [name, shown] of Object.entries(names)) {
      texts.currentNode.data = texts.currentNode.data.replaceAll(name, shown);
    }
  }
}"""


def main() -> int:
    """Writes dashboard-PAGE-SCHEME-WIDTH.png into the folder that is named; returns the status."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.stderr.write("screenshots: no chromium on PATH: apt-get install chromium\n")
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    before_s = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    with _demo() as address, sync_playwright() as playwright:
        time.sleep(before_s)  # so that the charts show more than a minute
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                for path in _take_all(browser, address, scheme, width, folder):
                    sys.stdout.write(f"{path} {path.stat().st_size:,} bytes\n")
        browser.close()
    return 0


@contextmanager
def _demo() -> Iterator[str]:
    """Runs the demo with its dashboard; yields the dashboard's address once it is served."""
    command = [sys.executable, "-u", str(ROOT / "examples" / "demo" / "demo.py"), "--web"]
    demo = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert demo.stdout is not None
    try:
        yield _address_in(demo.stdout.fileno())
    finally:
        demo.send_signal(signal.SIGINT)
        demo.stdout.close()
        demo.wait(30)


def _address_in(output: int) -> str:
    """Reads the demo's output up to the dashboard's address."""
    give_up_at, told = time.monotonic() + READY_S, b""
    while not (found := re.search(rb"(http://\S+?)/?\s", told)):
        if not select.select([output], [], [], max(0, give_up_at - time.monotonic()))[0]:
            raise TimeoutError(f"the demo served no dashboard within {READY_S:g} s")
        piece = os.read(output, 65_536)
        if not piece:
            raise RuntimeError("the demo ended before its dashboard")
        told += piece
    return found[1].decode()


def _take_all(
    browser: Browser, address: str, scheme: str, width: int, folder: Path
) -> Iterator[Path]:
    context = browser.new_context(
        base_url=address,
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": WIDTHS[width]},
    )
    context.set_default_timeout(STEP_MS)
    page = context.new_page()
    for name, path in _pages(address).items():
        page.goto(path)
        page.wait_for_load_state("load")
        if name == "overview":
            page.wait_for_selector("figure canvas")
        target = folder / f"dashboard-{name}-{scheme}-{width}.png"
        _take(page, target)
        yield target
    context.close()


def _pages(address: str) -> dict[str, str]:
    """Returns the pages to take, by the names of their pictures."""
    with urlopen(f"{address}/jobs.json?state=failed", timeout=10) as answer:
        failed = json.load(answer)["jobs"]
    crashed = next(job["id"] for job in failed if "null_pointer" in job["function"])
    pages = {"overview": "/", "job": f"/job?id={crashed}", "hosts": "/hosts"}
    with urlopen(f"{address}/", timeout=10) as answer:
        if b"/failures" in answer.read():
            pages["failures"] = "/failures"
    return pages


def _take(page: Page, target: Path) -> None:
    """Takes the first screen; with fewer colours if Pillow is there."""
    page.evaluate(
        OF_ANY_HOST, {str(ROOT): "/srv/rqd", sys.base_prefix: "/usr", gethostname(): "app1"}
    )
    page.screenshot(path=target)
    try:
        from PIL import Image
    except ImportError:
        return
    with Image.open(target) as picture:
        picture.convert("RGB").quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
