"""The report in a real browser: it draws, follows mouse, keyboard and touch, asks no one for anything, and is "
"accessible."""

from __future__ import annotations

import base64
import os
import shutil
from xml.etree import ElementTree

import pytest
from PIL import Image
from runs import write_run

from recon.report.page import rebuild_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
FLAGS = (
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
WAIT = 120_000  # milliseconds, of a machine that does ten other things
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("runs") / "a run")
    return rebuild_report(folder).as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env={**os.environ, "HOME": os.environ["HOME"]})
        yield found
        found.close()


def to_the_volume(page):
    """Scroll to where the volume is, which then begins to be drawn."""
    page.locator(".stage").scroll_into_view_if_needed()
    page.wait_for_selector("#viewer.ready", timeout=WAIT)


class Seen:
    """A page, and whatever it asked for or complained about."""

    def __init__(self, browser, address, **options):
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(WAIT)
        self.said, self.asked = [], []
        self.page.on("console", lambda m: self.said.append(m.text))
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on(
            "request", lambda r: self.asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None
        )
        self.page.goto(address, wait_until="domcontentloaded")
        self.page.wait_for_function("document.documentElement.dataset.ready")
        to_the_volume(self.page)
        self.page.wait_for_selector("#viewer[data-drawn]", state="attached")

    def pixels(self, selector):
        """The colours of a canvas, ``(y * x * 4)`` bytes, once it has come to rest."""
        code = (
            "s => { const c = document.querySelector(s), k = document.createElement('canvas');"
            "[k.width, k.height] = [64, 64]; const p = k.getContext('2d'); p.drawImage(c, 0, 0, 64, 64);"
            "return btoa(String.fromCharCode(...p.getImageData(0, 0, 64, 64).data)); }"  # numbers take seconds
        )
        return base64.b64decode(self.page.evaluate(code, selector))

    def changed(self, selector, act):
        """Whether a canvas looks different after `act`."""
        before = self.pixels(selector)
        act()
        for _ in range(100):
            self.page.wait_for_timeout(50)
            if self.pixels(selector) != before:
                return True
        return False


@pytest.fixture(scope="module")
def seen(browser, address):
    found = Seen(browser, address, viewport={"width": 1280, "height": 900})
    yield found
    found.page.close()


RAYS, SLICE = "canvas.rays", "canvas[data-plane=z][data-set=result]"


def test_it_draws_alone_and_without_complaint(seen, address):
    # the test itself reads pixels, which the driver remarks on
    assert [line for line in seen.said if "GPU stall due to ReadPixels" not in line] == []
    assert seen.asked == [address]
    rays = seen.pixels(RAYS)
    orange = sum(r > b + 40 for r, b in zip(rays[::4], rays[2::4], strict=True))
    blue = sum(b > r + 40 for r, b in zip(rays[::4], rays[2::4], strict=True))
    assert min(orange, blue) > 64 * 64 * 0.03
    plane = seen.pixels(SLICE)
    assert sum(v > 100 for v in plane[::4]) > 100


def test_the_mouse_turns_zooms_and_moves_the_crosshair(seen):
    page = seen.page
    page.locator(RAYS).scroll_into_view_if_needed()
    box = page.locator(RAYS).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag():
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 120, y + 40, steps=3)
        page.mouse.up()

    assert seen.changed(RAYS, drag)
    assert seen.changed(RAYS, lambda: page.mouse.wheel(0, -300))
    page.locator("button[name=home]").click()
    page.locator(SLICE).click(position={"x": 40, "y": 60})
    assert "voxel z" in page.locator(".values").inner_text()
    assert page.locator("[data-axis='1']").input_value() != page.locator("[data-axis='2']").input_value()


def test_the_keyboard_reaches_everything(seen):
    page = seen.page
    page.locator(RAYS).focus()
    assert seen.changed(RAYS, lambda: page.keyboard.press("ArrowLeft"))
    assert seen.changed(RAYS, lambda: page.keyboard.press("+"))
    page.locator(SLICE).focus()
    x = int(page.locator("[data-axis='2']").input_value())
    page.keyboard.press("ArrowRight")
    assert int(page.locator("[data-axis='2']").input_value()) == x + 1
    z = int(page.locator("[data-axis='0']").input_value())
    assert seen.changed(SLICE, lambda: page.keyboard.press("PageUp"))
    assert int(page.locator("[data-axis='0']").input_value()) == z + 1
    # every control can be reached by Tab alone: none is taken out of the order
    assert page.locator("#viewer [tabindex='-1']").count() == 0


def test_controls_change_the_picture(seen):
    page = seen.page
    assert seen.changed(RAYS, lambda: page.locator("[data-key=on][data-element='0']").uncheck())
    page.locator("[data-key=on][data-element='0']").check()
    for key, value in (("opacity", "0.1"), ("threshold", "0.9")):
        assert seen.changed(RAYS, lambda k=key, v=value: page.locator(f"[data-key={k}][data-element='1']").fill(v))
    assert seen.changed(RAYS, lambda: page.locator("[name=cut]").select_option("z"))
    assert seen.changed(RAYS, lambda: page.locator("[name=depth]").fill("0.6"))
    assert seen.changed(RAYS, lambda: page.locator("[name=side]").check())


def test_a_feature_is_chosen(seen):
    page = seen.page
    page.locator("[name=side]").uncheck()
    page.locator(".pin").nth(1).click()
    assert page.locator(".pin").nth(1).get_attribute("aria-pressed") == "true"
    assert page.locator(".chosen").inner_text().startswith("mixed: Co and Zn")
    assert "in mixed: Co and Zn" in page.locator(".values").inner_text()
    page.locator("[data-region='1']").first.click()
    assert page.locator(".chosen").inner_text().startswith("interlocked: Co alone")


def test_values_are_those_of_the_volume(seen, tmp_path):
    import numpy as np

    from recon.io import find_volume

    folder = write_run(tmp_path / "same")
    at = [int(seen.page.locator(f"[data-axis='{k}']").input_value()) for k in range(3)]
    cells = seen.page.locator(".values td").all_inner_texts()
    for k, name in enumerate(("Co", "Zn")):
        values, truth = find_volume(folder, name)[0], find_volume(folder, f"truth-{name}")[0]
        shown = [float(c) for c in cells[4 * k : 4 * k + 4]]
        pure = (1.0, 0.8)[k]
        expected = [values[tuple(at)], values[tuple(at)] / pure, 0.03, truth[tuple(at)]]
        np.testing.assert_allclose(shown, expected, atol=0.006)


def test_figures_and_tables_are_saved(seen):
    page = seen.page
    for kind, suffix in (("svg", ".svg"), ("csv", ".csv"), ("png", ".png")):
        with page.expect_download() as waiting:
            page.locator(f".take button[data-kind={kind}]:visible").first.click()
        assert waiting.value.suggested_filename.endswith(suffix)


@pytest.mark.parametrize("mm", [89, 183])
def test_figures_are_as_wide_as_journals_print(seen, mm):
    """The SVG says its width, the PNG has 300 dots an inch of it; both keep the shape."""
    images = seen.page.locator("figure img:visible").first
    shape = images.evaluate("i => i.height / i.width")
    for kind in ("svg", "png"):
        with seen.page.expect_download() as waiting:
            seen.page.locator(f".take button[data-kind={kind}][data-mm='{mm}']:visible").first.click()
        saved = waiting.value.path()
        if kind == "png":
            with Image.open(saved) as picture:
                width, height = (n / 300 * 25.4 for n in picture.size)
        else:
            root = ElementTree.parse(saved).getroot()
            width, height = (float(root.get(side).removesuffix("mm")) for side in ("width", "height"))
        assert abs(width - mm) < 0.1
        assert abs(height / width - shape) < 0.02


def test_a_narrow_screen_does_not_shrink_the_letters_of_figures(browser, address):
    found = Seen(browser, address, viewport={"width": 400, "height": 800})
    widths = found.page.locator("figure .wide img").evaluate_all(
        "all => all.map((i) => i.getBoundingClientRect().width)"
    )
    assert min(w for w in widths if w) >= 590
    found.page.close()


def test_touch_turns_it(browser, address):
    found = Seen(browser, address, viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    page = found.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 400, "the page is wider than the screen"
    page.locator(RAYS).scroll_into_view_if_needed()
    box = page.locator(RAYS).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        where = [{"x": px, "y": py, "id": k} for k, (px, py) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})

    def drag():
        touch("touchStart", (x, y))
        for step in range(1, 4):
            touch("touchMove", (x + 30 * step, y))
        touch("touchEnd")

    def pinch():
        touch("touchStart", (x - 20, y), (x + 20, y))
        for step in range(1, 4):
            touch("touchMove", (x - 20 - 20 * step, y), (x + 20 + 20 * step, y))
        touch("touchEnd")

    assert found.changed(RAYS, drag)
    assert found.changed(RAYS, pinch)
    assert found.said == []
    page.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_axe_finds_no_violation(browser, address, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = Seen(browser, address, viewport={"width": width, "height": 900})
    found.page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    violations = axe.Axe().run(found.page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in violations] == []
    found.page.close()


def test_slices_work_without_webgl(browser, address):
    page = browser.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = (get => function (kind, ...rest) {"
                         "return kind === 'webgl2' ? null : get.call(this, kind, ...rest); })"
                         "(HTMLCanvasElement.prototype.getContext)")  # fmt: skip
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_function("document.documentElement.dataset.ready", timeout=WAIT)
    to_the_volume(page)
    page.wait_for_selector(".flat:visible", timeout=WAIT)
    assert not page.locator(".space").is_visible()
    assert page.locator(".flat").is_visible()
    page.locator(SLICE).click(position={"x": 40, "y": 60})
    assert "voxel z" in page.locator(".values").inner_text()
    page.close()


def test_it_prints(browser, address):
    page = browser.new_page()
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_function("document.documentElement.dataset.ready", timeout=WAIT)
    to_the_volume(page)
    page.emulate_media(media="print")
    assert not page.locator(".panel").is_visible()
    assert not page.locator("button:not(.pin):visible").count()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    covered = page.evaluate(
        "(() => { const c = document.querySelector('#viewer canvas.over'), p = c.getContext('2d');"
        "const alpha = p.getImageData(c.width / 3, c.height / 3, c.width / 3, c.height / 3).data"
        ".filter((_, i) => i % 4 === 3); return alpha.filter((a) => a === 255).length / alpha.length; })()"
    )
    assert covered > 0.9  # by the volume on its dark ground; the lines of its frame cover a few percent
    assert page.locator("#viewer canvas.over").is_visible()
    assert len(page.pdf()) > 50_000
    page.close()
