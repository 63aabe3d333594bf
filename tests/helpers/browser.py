"""A headless Chromium, driven through chromedriver with plain HTTP (the W3C WebDriver protocol)."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1366,768"
).split()
DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element


class Browser:
    """One session; every method is one or two commands of the protocol."""

    def __init__(self, address: str, profile: Path) -> None:
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self.address = address + "/session"
        session = self.do("POST", "", capabilities={"alwaysMatch": {**wanted, "unhandledPromptBehavior": "ignore"}})
        self.address += "/" + session["sessionId"]

    def do(self, method: str, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def script(self, code: str) -> Any:
        """What `return ...` gives back."""
        return self.do("POST", "/execute/sync", script=code, args=[])

    def hover(self, selector: str) -> None:
        """The real mouse goes to the middle of an element."""
        found = self.do("POST", "/element", using="css selector", value=selector)
        step = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": {ELEMENT: found[ELEMENT]}}
        self.do("POST", "/actions", actions=[{"type": "pointer", "id": "mouse", "actions": [step]}])

    def press(self, *keys: str) -> None:
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.do("POST", "/actions", actions=[{"type": "key", "id": "keys", "actions": steps}])

    def dialog(self) -> bool:
        try:
            self.do("GET", "/alert/text")
            return True
        except urllib.error.HTTPError as error:
            error.close()
            return False

    def complaints(self) -> list[str]:
        """Exceptions, refused loads and all else that the console has said."""
        return [line["message"] for line in self.do("POST", "/se/log", type="browser")]

    def requests(self) -> list[str]:
        """The addresses that pages from files asked for, their own among them."""
        events = [json.loads(e["message"])["message"] for e in self.do("POST", "/se/log", type="performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent if one["documentURL"].startswith("file:")]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A fresh browser whose profile lies in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([str(DRIVER), f"--port={port}"], **quiet) as driver:
        try:
            _wait(f"http://127.0.0.1:{port}/status")
            session = Browser(f"http://127.0.0.1:{port}", folder / "profile")
            try:
                yield session
            finally:
                session.do("DELETE", "")
        finally:
            driver.terminate()


def _wait(address: str) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("chromedriver does not answer")
