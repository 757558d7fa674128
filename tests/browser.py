"""A real browser that looks at a page: what it sees of sections, of colours, and of what is laid out wrongly."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROBE = """<script>
const said = [];
if (document.documentElement.scrollWidth > innerWidth) said.push("the page is wider than the window");
for (const svg of document.querySelectorAll("svg")) {
  const box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
  for (const [a, r] of texts) {
    if (r.left < box.left - 2 || r.right > box.right + 2) said.push(`${a} leaves its picture`);
    for (const [b, s] of texts)
      if (a < b && Math.min(r.right, s.right) - Math.max(r.left, s.left) > 1
          && Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top) > 0.25 * Math.min(r.height, s.height))
        said.push(`${a} lies over ${b}`);
  }
}
const dark = getComputedStyle(document.body).backgroundColor;
document.title = [document.querySelectorAll("section").length, dark, ...said].join("; ");
</script>"""


def find_browser() -> str:
    """Return Chromium's path; skips where there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    return browser


def look(page: str, folder: Path, width: int, scheme: int) -> tuple[int, str, list[str]]:
    """Show a page in a window; skips where there is no Chromium.

    Args:
        width: of the window, in pixels.
        scheme: 1 prefers light colours, 0 dark ones.

    Returns:
        How many sections it has, the colour of its paper, and what is wrong with it.
    """
    browser = find_browser()
    path = folder / "page.html"
    # The probe is a script, which pages that have none forbid.
    allowed = page.replace("script-src 'unsafe-inline'; ", "").replace("default-src 'none';", _SCRIPTS)
    path.write_text(allowed.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    flags += [f"--window-size={width},800", f"--blink-settings=preferredColorScheme={scheme}"]
    command = [browser, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
    sections, background, *wrong = re.search(r"<title>(.*?)</title>", done)[1].split("; ")
    return int(sections), background, wrong


_SCRIPTS = "default-src 'none'; script-src 'unsafe-inline';"
