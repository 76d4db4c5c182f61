"""Headless Chromium through its DevTools protocol: a page as a reader sees it."""

import base64
import json
import time
from pathlib import Path

from websockets.sync.connection import Connection


class Browser:
    """One headless Chromium; every `open` is a fresh tab."""

    def __init__(self, socket: Connection) -> None:
        self._socket, self._calls = socket, 0
        self.events: list[dict] = []

    def call(self, method: str, session: str = "", **params: object) -> dict:
        """The result of one DevTools command; events that arrive meanwhile are kept."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._calls:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]
            self.events.append(answer)

    def open(self, path: Path, width: int = 1280, scheme: str = "light", drawn: bool = True) -> "Tab":
        """The page in a window of this many CSS pixels; `drawn`: once its charts are."""
        self.events.clear()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.resize(width)
        tab.prefer(scheme)
        tab.call("Page.navigate", url=path.as_uri())
        charts = "document.documentElement?.dataset.drawn" if drawn else "document.querySelector('main')"
        tab.wait(f"{charts} && document.readyState === 'complete'")
        return tab


class Tab:
    """A page under test."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **params: object) -> dict:
        return self._browser.call(method, self._session, **params)

    def value(self, expression: str):
        """What a JavaScript expression gives in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + 30
        while not self.value(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never true: {condition}; console: {self.complaints()}"
            time.sleep(0.05)

    def resize(self, width: int) -> None:
        is_phone = width < 500
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=is_phone)

    def prefer(self, scheme: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def complaints(self) -> list[str]:
        """Console messages, uncaught exceptions and browser log entries, as text."""
        self.value("new Promise(done => setTimeout(done, 100))")
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self._browser.events if event.get("method") in kinds]

    def requests(self) -> list[str]:
        """Addresses of everything the page asked for."""
        sent = [event["params"] for event in self._browser.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent if not params["request"]["url"].startswith("data:")]

    def screenshot(self, path: Path) -> None:
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(image["data"]))

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)


DRAWN = """[...document.querySelectorAll('.chart')].map(chart => ({
  id: chart.id,
  shapes: chart.querySelectorAll('.point path, .points path, path.js-line, .sankey-link, .sankey-node').length,
  width: chart.querySelector('svg.main-svg')?.clientWidth ?? 0,
  room: chart.clientWidth,
}))"""

FAINT = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const linear = part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [one, two] = [light(channels(element.closest('svg') ? style.fill : style.color)), light(ground(element))];
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) faint.push(`${texts.currentNode.data.trim()}: ${contrast.toFixed(2)}`);
  }
  return faint;
})()"""
