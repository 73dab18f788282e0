"""A reader of the pages: opens them in a real browser, and notes what went wrong on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, expect

WIDE = ViewportSize(width=1280, height=900)
NARROW = ViewportSize(width=390, height=844)
PATIENCE_MS = 60_000

_FAINT_TEXTS = r"""() => {
  const part = (value) => (value <= 10.31 ? value / 3294 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [red, green, blue] = colour.match(/[\d.]+/g).map(Number).map(part);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    const isClear = colour.endsWith(", 0)");
    return isClear && node.parentElement ? ground(node.parentElement) : colour;
  };
  const isText = (node) =>
    [...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((node) => isText(node) && node.getClientRects().length && !node.disabled)
    .filter((node) => {
      const style = getComputedStyle(node);
      const own = light(node instanceof SVGElement ? style.fill : style.color);
      const [dark, bright] = [own, light(ground(node))].sort((a, b) => a - b);
      return (bright + 0.05) / (dark + 0.05) < 4.5;
    })
    .map((node) => node.textContent.slice(0, 40));
}"""

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Reader:
    """One tab. `faults` are errors of scripts, and what the pages' policy has forbidden."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def mark(self) -> None:
        """Leave something on the page that a reload would take away."""
        self.page.evaluate("document.body.dataset.mark = 'here'")

    def check_not_reloaded(self) -> None:
        expect(self.page.locator("body[data-mark=here]")).to_have_count(1)

    def check_fits(self) -> None:
        """Nothing is to be scrolled sideways."""
        root = "document.documentElement"
        widths = self.page.evaluate(f"[{root}.scrollWidth, {root}.clientWidth]")
        assert widths[0] <= widths[1]

    def check_reads(self) -> None:
        """Every text stands out from its ground, as WCAG's level AA wants it."""
        assert self.page.evaluate(_FAINT_TEXTS) == []

    def check_fits_everywhere(self, shots: Path, name: str) -> None:
        """At both widths and in both themes; pictures are left for whoever wants to look."""
        for size in (WIDE, NARROW):
            self.page.set_viewport_size(size)
            for theme in ("light", "dark"):
                self.page.emulate_media(color_scheme=theme)
                self.check_fits()
                self.check_reads()
                picture = shots / f"{name}-{size['width']}-{theme}.png"
                self.page.screenshot(path=picture, full_page=True)
                assert picture.stat().st_size > 0
        self.page.set_viewport_size(WIDE)


@contextmanager
def reading(
    browser: Browser, url: str, *, locale: str = "en-US", timezone_id: str = "UTC"
) -> Iterator[Reader]:
    """A tab with storage of its own; at the end, nothing may have gone wrong."""
    context = browser.new_context(
        viewport=WIDE, accept_downloads=True, locale=locale, timezone_id=timezone_id
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    reader = Reader(page, url)
    page.on("pageerror", lambda error: reader.faults.append(str(error)))
    page.on(
        "console",
        lambda said: reader.faults.append(said.text) if "Policy" in said.text else None,
    )
    try:
        yield reader
        assert reader.faults == []
    finally:
        page.unroute_all(behavior="ignoreErrors")  # some may be under way
        context.close()
