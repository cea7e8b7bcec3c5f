"""The page: every state of a sweep gives one, text stays text, and what a browser makes of it."""

import shutil

import polars as pl
import pytest

from analysis.__main__ import main
from analysis.frames.reading import load
from analysis.page.report import write_report
from tests.analysis.conftest import cell, failed, sweep

CLEAN = [("clean", 0.0)]
STATES = {
    "whole": lambda: sweep(),
    "two seeds": lambda: sweep() + sweep(seed=1),
    "half-finished": lambda: [*sweep(models=["generative"], noise=CLEAN)[:6], failed(4, "classes:2")],
    "FP32 alone": lambda: sweep(bits=[None]),
    "one cell": lambda: [cell(4)],
    "failed alone": lambda: [failed(8), failed(4)],
    "nothing yet": list,
    "noise alone": lambda: sweep(noise=[("typo", 0.1)], ratios=["classes:2"]),
}


def page_of(path, tmp_path):
    out = tmp_path / "page" / "report.html"
    write_report(path, out)
    return out


@pytest.mark.parametrize("state", STATES)
@pytest.mark.slow
def test_every_state_of_a_sweep_gives_a_page(write_results, tmp_path, state):
    page = page_of(write_results(STATES[state]()), tmp_path).read_text()
    assert '<section id="accuracy"' in page
    assert page.rstrip().endswith("</html>")
    assert ("the same sweep with --retry-failed tries them again" in page) == (
        "fail" in state or "half" in state
    )


def test_an_empty_directory_is_one_sentence(tmp_path, capsys):
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "r.html")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} holds no results: expected")


def test_what_a_cell_says_is_text_and_no_markup(write_results, tmp_path):
    evil = "</script><script>alert(1)</script><b>"
    rows = [*sweep(noise=CLEAN, embedding=evil), failed(7, error=evil)]
    page = page_of(write_results(rows), tmp_path).read_text()
    assert "alert(1)</script>" not in page
    assert "<b>" not in page


def test_a_failed_control_comes_first(write_results, tmp_path):
    rows = sweep(noise=CLEAN)
    bad = {"cell_id": rows[1]["cell_id"], "tensor": "logits", "kind": "activation", "contrast": "null_float",
           "document_d": 0.2}  # fmt: skip
    page = page_of(write_results(rows, [bad]), tmp_path).read_text()
    assert page.index("A null control FAILED, trust no shift below") < page.index("<h1>")


@pytest.fixture
def browser_page():
    """A page of Debian's chromium with the network off; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser.new_context(offline=True).new_page()
        browser.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_in_a_browser(write_results, tmp_path, browser_page, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, troubles = browser_page, []
    page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith("file:") else troubles.append(asked.url))
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    path = write_results([*sweep(), failed(7)])
    page.goto(page_of(path, tmp_path).as_uri())
    page.wait_for_selector("html[data-ready]")

    assert page.locator("#accuracy svg").count() == 2
    page.select_option("#accuracy select[data-control=input]", "typo 20%")
    page.wait_for_function("document.querySelector('#accuracy .shown').textContent.includes('Shown')")
    page.locator("#accuracy details summary").click()
    page.wait_for_selector("#accuracy table.data tbody tr")
    expected = load(path).cells.filter(noise_level=0.2, status="ok").collect()
    quantized = len(expected.filter(pl.col("bits").is_not_null()))
    assert page.locator("#accuracy table.data tbody tr").count() == quantized + 2 * 4  # FP32 at each ratio

    page.select_option("select[data-filter=width]", "3")
    page.select_option("select[data-filter=model]", "generative")
    assert page.locator("#cells-count").text_content() == "12 of 79 cells"
    page.get_by_role("button", name="accuracy, %").click()
    place = page.locator("#cells-table th").all_text_contents().index("accuracy, %") + 1
    shown = page.locator(f"#cells-table tbody td:nth-child({place})").all_text_contents()
    assert [float(text) for text in shown] == sorted(float(text) for text in shown)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    serious = [
        fault["id"] for fault in axe.Axe().run(page).response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]  # fmt: skip
    assert serious == []
    assert troubles == []
