"""JupyterLab as a reader has it: Chromium opens notebooks, runs all cells, moves sliders. Opt-in: `pytest -m browser`.

Screenshots go to runs/browser/. Chromium is the system's, Playwright's own download is not needed.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from fairlth.config import paths

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SHOTS = paths.ROOT / "runs" / "browser"
MINUTES = 60_000  # milliseconds
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on this machine: install the system's package"
    ),
]
CELLS = (
    "[...jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type === 'code')"
)
KERNEL = "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status"
FAULTS = f"{CELLS}.flatMap(cell => cell.outputs.toJSON()).filter(out => out.output_type === 'error' || out.name === 'stderr')"
DONE = f"() => {FAULTS}.length > 0 || ({KERNEL} === 'idle' && {CELLS}.every(cell => cell.executionCount !== null))"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `make lab` starts it, on a copy of the notebooks, with folders and a port of its own; its address."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(paths.ROOT / "notebooks", home / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
        "FAIRLTH_HOME",
    )
    own = {name: str(home / name.lower()) for name in folders} | {"PYTHONPATH": str(paths.ROOT)}
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--notebook-dir",
        home / "notebooks",
        "--no-browser",
        "--allow-root",
    ]
    command += [
        "--port",
        str(port),
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--expose-app-in-browser",
    ]
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=home, env=os.environ | own, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/api/status", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def wait_for(address, server, seconds=120):
    """Until the address answers."""
    for _ in range(seconds):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, "JupyterLab ended before it answered"
            time.sleep(1)
    pytest.fail(f"JupyterLab did not answer within {seconds} s")


@pytest.fixture
def page():
    """A page of headless Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright: install the package playwright"
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1280, "height": 960})
        browser.close()


def open_notebook(page, lab, name):
    """Shows a notebook alone and waits for its kernel."""
    page.goto(f"{lab}/doc/tree/{name}.ipynb", timeout=3 * MINUTES)
    page.wait_for_function(f"() => window.jupyterapp && {KERNEL} === 'idle'", timeout=3 * MINUTES)


def run_all(page, name):
    """Clears all outputs and runs all cells by the menu, to the end; fails where a cell shows an error or a warning."""
    for menu, entry in (("Edit", "Clear Outputs of All Cells"), ("Run", "Run All Cells")):
        page.get_by_role("menuitem", name=menu, exact=True).click()
        page.get_by_role("menuitem", name=entry, exact=True).click()
    assert not page.evaluate(f"{CELLS}.every(cell => cell.executionCount !== null)")
    page.wait_for_function(DONE, timeout=10 * MINUTES)
    assert page.evaluate(FAULTS) == []
    counts = page.evaluate(f"{CELLS}.map(cell => cell.executionCount)")
    assert counts == list(range(1, len(counts) + 1))
    for place in range(
        0, page.evaluate("jupyterapp.shell.currentWidget.content.model.cells.length"), 6
    ):
        show(page, place)
        shot(page, f"{name}_{place:02d}")


def show(page, place):
    """Scrolls to a cell, twice: cells on the way grow as they are drawn."""
    for _ in range(2):
        page.evaluate(f"jupyterapp.shell.currentWidget.content.scrollToItem({place}, 'start')")
        page.wait_for_timeout(700)


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def place_of(page, words):
    """The place of the first cell whose source holds these words."""
    cells = "[...jupyterapp.shell.currentWidget.content.model.cells]"
    return page.evaluate(
        f"{cells}.findIndex(cell => cell.sharedModel.getSource().includes({words!r}))"
    )


def test_the_walkthrough_runs_and_its_sliders_move_the_picture(lab, page):
    open_notebook(page, lab, "02_walkthrough")
    place = place_of(page, "SelectionSlider")
    show(page, place)
    shot(page, "02_walkthrough_as_committed")
    assert (
        page.locator(".jp-RenderedImage img").count()
        and not page.locator(".jupyter-widgets").count()
    )
    run_all(page, "02_walkthrough")
    show(page, place)
    cell = page.locator(".jp-Cell", has=page.locator(".noUi-handle"))
    picture, handles = cell.locator(".jp-RenderedImage img"), cell.locator(".noUi-handle")
    pictures = [picture.get_attribute("src")]
    for slider, key in ((0, "ArrowLeft"), (1, "ArrowRight")):
        shot(page, f"02_walkthrough_sliders_{slider}")
        handles.nth(slider).press(key)
        page.wait_for_function(
            "([before, place]) => document.querySelector(`.jp-Cell[data-windowed-list-index='${place}'] .jp-RenderedImage img`).src"
            " !== before",
            arg=[pictures[-1], place],
            timeout=3 * MINUTES,
        )
        pictures.append(picture.get_attribute("src"))
    show(page, place)
    shot(page, "02_walkthrough_sliders_moved")
    assert len(set(pictures)) == 3 and all(
        source.startswith("data:image/png") for source in pictures
    )
    assert page.evaluate(FAULTS) == []


def test_one_run_runs(lab, page):
    open_notebook(page, lab, "03_one_run")
    run_all(page, "03_one_run")
    assert "accuracy" in page.evaluate(
        f"JSON.stringify({CELLS}.flatMap(cell => cell.outputs.toJSON()))"
    )


TOO_WIDE = """() => {
    const right = thing => thing.getBoundingClientRect().right;
    const wide = [...document.querySelectorAll('table')].filter(table => right(table) > innerWidth);
    const short = [...document.querySelectorAll('td')].filter(
        cell => /^[-–+]?[0-9][^a-z]*$/.test(cell.innerText.trim()));
    const wrapped = short.filter(cell => cell.getBoundingClientRect().height > 36);
    const code = [...document.querySelectorAll('.highlight pre')].filter(
        cell => cell.scrollWidth > cell.clientWidth + 1);
    return [...wide, ...wrapped, ...code].map(thing => thing.innerText.slice(0, 80));
}"""


def test_tables_and_code_fit_a_page_of_1280_pixels(page, tmp_path):
    """No table runs over the edge, no number is wrapped, and no code has to be scrolled."""
    notebooks = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))
    config = paths.ROOT / "notebooks/html/config.py"
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--config", config]
    done = subprocess.run(
        [*command, "--output-dir", tmp_path, *notebooks],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.glob("*.html"))
    assert len(pages) == len(notebooks)
    n_tables = 0
    for one in pages:
        page.goto(one.as_uri())
        n_tables += page.locator("table").count()
        assert page.evaluate(TOO_WIDE) == [], one.name
        page.evaluate(
            "document.querySelectorAll('table').forEach(table => table.style.width = '1400px')"
        )
        assert len(page.evaluate(TOO_WIDE)) >= page.locator("table").count()  # it would be seen
    assert n_tables > 20
