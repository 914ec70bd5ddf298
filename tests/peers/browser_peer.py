"""A browser as judge of the service's pages: headless Chromium, driven by Selenium.

Usage: browser_peer.py URL SECRET --control COMMAND [--shots DIR]

URL is a provisioned service's, with scans of every verdict, one that cannot be judged among them.
COMMAND is run with one word behind it when something must happen to the service, and ends with
status 0:
  scan    a new scan arrives and is judged
  expire  all sessions end (a restart will do, at the same address)
Signs in with a wrong and the right secret, sees a new scan appear by itself, moves the heat map's
slider, reads every verdict, tries to forge forms, acknowledges with and without script, lets the
session end, and looks at every page in three sizes. Fails when anything differs, when the console
shows an error that no step asked for, when a page is wider than its window, or when any request
leaves the service.
Needs selenium from PyPI, chromium and chromedriver. Certificates are not checked.
"""

import argparse
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import urllib.parse

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE_S = 30
SIZES = {"phone": (390, 844, True), "touch": (800, 480, True), "desk": (1280, 800, False)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("secret")
    parser.add_argument("--control", required=True)
    parser.add_argument("--shots", type=pathlib.Path)
    arguments = parser.parse_args()
    browser = Browser(arguments.url.rstrip("/"), arguments.shots)
    control = lambda word: subprocess.run([*shlex.split(arguments.control), word], check=True)
    try:
        for step in STEPS:
            step(browser, arguments.secret, control)
            print("ok:", step.__doc__.rstrip("."), flush=True)
    finally:
        browser.driver.quit()


class Browser:
    """A driver that remembers what the steps may have provoked."""

    def __init__(self, url, shots):
        self.url, self.shots = url, shots
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--no-first-run"):
            options.add_argument(flag)
        options.accept_insecure_certs = True
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(PATIENCE_S)

    def go(self, path):
        self.driver.get(self.url + path)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self):
        return self.find("body").text

    def path(self):
        return urllib.parse.urlsplit(self.driver.current_url).path

    def wait(self, what, condition):
        WebDriverWait(self.driver, PATIENCE_S, ignored_exceptions=(Exception,)).until(
            lambda _: condition(), what)

    def check_console(self, allowed=()):
        """Fails on any error but refusals with these statuses; clears the log."""
        for entry in self.driver.get_log("browser"):
            refused = re.search(r"status of (\d+)", entry["message"])
            if not (refused and int(refused[1]) in allowed) and entry["level"] != "INFO":
                fail(f"the console says: {entry['message']}")

    def check_requests(self):
        """Fails when a request went elsewhere; clears the log."""
        seen = 0
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] != "Network.requestWillBeSent":
                continue
            address = urllib.parse.urlsplit(message["params"]["request"]["url"])
            if address.scheme in ("data", "about", "blob"):
                continue
            if f"{address.scheme}://{address.netloc}" != self.url:
                fail(f"a request went to {address.scheme}://{address.netloc}")
            seen += 1
        if not seen:
            fail("no request was seen: the check does not work")

    def size(self, width, height, mobile):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile})

    def look(self, name):
        """Checks and keeps the page in every size, light and dark."""
        for label, size in SIZES.items():
            for scheme in ("light", "dark"):
                self.size(*size)
                self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
                    "features": [{"name": "prefers-color-scheme", "value": scheme}]})
                wide = self.driver.execute_script(
                    "return document.documentElement.scrollWidth - innerWidth")
                if wide > 0:
                    fail(f"{name} is {wide} pixels wider than a {label} window")
                if self.shots:
                    self.shots.mkdir(parents=True, exist_ok=True)
                    self.driver.save_screenshot(str(self.shots / f"{name}-{label}-{scheme}.png"))
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.size(*SIZES["desk"])

    def script(self, enabled):
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not enabled})


def fail(why):
    sys.exit(f"failed: {why}")


def expect(condition, why):
    if not condition:
        fail(why)


def sign_in(browser, secret):
    browser.find("#secret").send_keys(secret, Keys.ENTER)


def open_scan(browser):
    """Opens a scan that has a heat map and was not acknowledged."""
    browser.go("/")
    addresses = [row.get_attribute("href") for row in browser.all(".row")]
    for address in addresses:
        browser.driver.get(address)
        if browser.all("#heat-picture") and browser.all("#acknowledge"):
            return address
    fail("no scan with a heat map waits to be acknowledged")


def wrong_secret(browser, secret, control):
    """A wrong secret is refused."""
    browser.go("/health")
    expect(browser.path() == "/sign-in", "a stranger is not led to the sign-in")
    browser.look("sign-in")
    browser.check_console()
    sign_in(browser, "wrong-" + secret[:3])
    browser.wait("no refusal", lambda: browser.find("[role=alert]").is_displayed())
    expect("not the secret" in browser.text(), "the refusal says nothing")
    browser.look("sign-in-wrong")
    browser.check_console(allowed=(403,))


def right_secret(browser, secret, control):
    """The right secret leads to the page that was asked for."""
    sign_in(browser, secret.upper().replace("-", " "))
    browser.wait("not signed in", lambda: browser.path() == "/health")
    cookie = browser.driver.get_cookies()[0]
    expect(cookie["httpOnly"] and cookie["sameSite"] == "Strict", "the cookie is open to scripts")
    expect(cookie["secure"] == browser.url.startswith("https:"), "the cookie is not secure")
    expect(browser.driver.execute_script("return document.cookie") == "", "scripts see the cookie")
    browser.look("health")
    browser.check_console()


def live_update(browser, secret, control):
    """A new scan appears by itself."""
    browser.go("/")
    browser.wait("not live", lambda: browser.find("#connection").text == "Live")
    browser.look("list")
    newest = lambda: [row.get_attribute("href") for row in browser.all(".row")][:1]
    before = newest()
    browser.driver.execute_script("window.same = true")
    control("scan")
    browser.wait("the scan does not appear", lambda: newest() != before)
    browser.wait("its verdict does not appear", lambda: any(
        word in browser.find(".row .verdict").text
        for word in ("Normal", "Abnormal", "Refer", "Not judged")))
    expect(browser.driver.execute_script("return window.same"), "the page was loaded anew")
    browser.wait("nothing is said", lambda: browser.find("#said").get_property("textContent"))
    browser.check_console()


def slider(browser, secret, control):
    """The slider fades the heat map."""
    open_scan(browser)
    browser.wait("no pictures", lambda: browser.driver.execute_script(
        "return [...document.querySelectorAll('.pictures img')].every(i => i.naturalWidth > 0)"))
    browser.look("scan")
    expect(browser.find(".ring").is_displayed(), "the strongest evidence is not marked")
    stage = browser.find(".pictures")
    heat = browser.find("#heat")
    with_heat = stage.screenshot_as_png
    heat.send_keys(Keys.HOME)
    expect(browser.find("#heat-picture").value_of_css_property("opacity") == "0", "it stays hot")
    expect(browser.find("#heat-shown").text == "0 %", "the number does not follow")
    expect(stage.screenshot_as_png != with_heat, "the picture does not change")
    heat.send_keys(Keys.END)
    expect(stage.screenshot_as_png == with_heat, "the heat map does not come back")
    expect("not a diagnosis" in browser.text(), "the statement is missing")
    browser.check_console()


def every_verdict(browser, secret, control):
    """Every kind of verdict has its words."""
    for word, name in (("Normal", "normal"), ("Refer", "referred"), ("Not judged", "not-judged")):
        browser.go("/")
        rows = [row for row in browser.all(".row") if row.text.startswith(word)]
        expect(rows, f"no scan is {word}")
        browser.driver.get(rows[0].get_attribute("href"))
        expect(word in browser.find("#verdict").text, "the scan says otherwise")
        browser.look(f"scan-{name}")
    browser.check_console()


def forgery(browser, secret, control):
    """Forged forms change nothing."""
    address = open_scan(browser)
    status = browser.driver.execute_async_script(
        "const done = arguments[1];"
        "fetch(arguments[0] + '/acknowledge', {method: 'POST', headers:"
        " {'Content-Type': 'application/x-www-form-urlencoded'}, body: 'csrf=forged'})"
        ".then(answer => done(answer.status), () => done(0))", address)
    expect(status == 403, f"a forged token is answered with {status}")
    token = browser.find("#seen [name=csrf]").get_attribute("value")
    page = (f"<form method=post action='{address}/acknowledge'>"
            f"<input name=csrf value={token}></form><script>document.forms[0].submit()</script>")
    browser.driver.get("data:text/html," + urllib.parse.quote(page))
    browser.wait("the other site's form is not refused", lambda: "refused" in browser.text())
    browser.driver.get(address)
    expect(browser.all("#acknowledge"), "a forged form acknowledged a scan")
    browser.check_console(allowed=(403,))


def acknowledge(browser, secret, control):
    """A scan is acknowledged, and the list says so."""
    address = open_scan(browser)
    browser.find("#acknowledge").click()
    browser.wait("not acknowledged", lambda: "Seen" in browser.find("#seen").text)
    expect(browser.driver.current_url == address, "one does not come back to the scan")
    browser.look("scan-seen")
    path = urllib.parse.urlsplit(address).path
    browser.go("/")
    row = [row for row in browser.all(".row") if row.get_attribute("href").endswith(path)]
    expect("Seen" in row[0].text, "the list does not say so")
    browser.check_console()


def without_script(browser, secret, control):
    """Everything but the slider works without script."""
    control("scan")
    browser.script(False)
    browser.go("/")
    expect(browser.all(".row"), "no list without script")
    expect(not browser.find("#connection").is_displayed(), "it claims to be live")
    open_scan(browser)
    expect(browser.find("#heat-picture").is_displayed(), "no heat map without script")
    expect(not browser.find("#heat").is_displayed(), "a dead slider is shown")
    browser.find("#acknowledge").click()
    browser.wait("not acknowledged", lambda: "Seen" in browser.find("#seen").text)
    browser.script(True)
    browser.check_console()


def expiry(browser, secret, control):
    """A page without a session shows nothing any more."""
    browser.go("/")
    browser.wait("not live", lambda: browser.find("#connection").text == "Live")
    control("expire")
    browser.wait("the page stays open", lambda: browser.path() == "/sign-in")
    expect(not browser.all(".row"), "scans are still shown")
    # A restart is seen as a lost connection first, whose failure the console reports.
    for entry in browser.driver.get_log("browser"):
        if not re.search(r"status of 401|net::ERR_", entry["message"]):
            fail(f"the console says: {entry['message']}")


def sign_out(browser, secret, control):
    """Signing out ends the session."""
    sign_in(browser, secret)
    browser.wait("not signed in", lambda: browser.path() == "/")
    browser.find("form[action='/sign-out'] button").click()
    browser.wait("not signed out", lambda: browser.path() == "/sign-in")
    browser.go("/")
    expect(browser.path() == "/sign-in", "the session goes on")
    browser.check_console()


def nowhere_else(browser, secret, control):
    """No request has gone to any other host."""
    browser.check_requests()


STEPS = [wrong_secret, right_secret, live_update, slider, every_verdict, forgery, acknowledge,
         without_script, expiry, sign_out, nowhere_else]

if __name__ == "__main__":
    main()
