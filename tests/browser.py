"""A real browser, headless, driven by its own protocol (Chrome DevTools): Debian's chromium."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

# Where pictures go, to be looked at; none are taken without it.
PICTURES = os.environ.get("ANYSOCK_TEST_PICTURES")

# Seconds that a page may take for anything, on a machine that does much else.
PATIENCE = 40.0


def chromium() -> str:
    """Where the browser is. Skips the test where there is none, but in CI, which must have it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        assert not os.environ.get("CI"), "chromium is not installed: apt-get install chromium"
        pytest.skip("chromium is not installed")
    return found


class Page:
    """One page of the browser, with all that it has complained of."""

    def __init__(self, channel: ClientConnection) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)
        #: What stands in the console as a warning or an error, and exceptions that nothing caught.
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        number = next(self._numbers)
        self._channel.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._channel.recv(timeout=PATIENCE))
            self._note(message)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                found: dict[str, Any] = message["result"]
                return found

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("warning", "error"):
                self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url')}")
            case "Runtime.consoleAPICalled" if params["type"] in ("warning", "error", "assert"):
                self.complaints.append(json.dumps(params["args"]))

    def open(self, url: str) -> None:
        """Go to `url`, and return once the page is loaded."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression (or of what it promises), as JSON has it."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def until(self, condition: str) -> Any:
        """Wait until a JavaScript expression is true of the page; return its value."""
        deadline = time.monotonic() + PATIENCE
        while not (found := self.ask(condition)):
            assert time.monotonic() < deadline, f"never: {condition}"
            time.sleep(0.05)
        return found

    def click(self, selector: str) -> None:
        """Click on the first element with that CSS selector, as a mouse does."""
        self.ask(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")
        x, y = self.ask(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """From now on, be so wide and so high (CSS pixels), and light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def shoot(self, path: Path) -> None:
        """Take a picture (PNG)."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browsing() -> Iterator[Page]:
    """Within the block, a browser runs, and has one page."""
    program = chromium()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder:
        port_file = Path(folder, "DevToolsActivePort")
        process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions",
             "--disable-component-update", "--remote-debugging-port=0",
             f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE
            while not (port_file.exists() and len(port_file.read_text().split()) == 2):
                assert process.poll() is None, "chromium has ended"
                assert time.monotonic() < deadline, "chromium does not start"
                time.sleep(0.05)
            port, path = port_file.read_text().split()
            url = f"ws://127.0.0.1:{port}"
            with connect(url + path, max_size=None, proxy=None) as channel:
                channel.send(json.dumps({"id": 0, "method": "Target.getTargets"}))
                targets = json.loads(channel.recv(timeout=PATIENCE))["result"]["targetInfos"]
            [target] = [each["targetId"] for each in targets if each["type"] == "page"]
            with connect(f"{url}/devtools/page/{target}", max_size=None, proxy=None) as channel:
                yield Page(channel)
        finally:
            process.terminate()
            process.wait(PATIENCE)


def picture(page: Page, name: str) -> None:
    """Take a picture, where they are wanted."""
    if PICTURES:
        page.shoot(Path(PICTURES, f"{name}.png"))
