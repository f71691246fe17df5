"""A report in a real browser. Skipped, with the reason, where no browser is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Any]:
    """The report in a new page, with what it printed to the console and requested."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.printed, page.requested = [], []
    page.on("console", lambda message: page.printed.append(message.text))
    page.on("pageerror", lambda error: page.printed.append(str(error)))
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(page_file.as_uri())
    yield page
    assert page.printed == []
    assert [url for url in page.requested if not url.startswith("data:")] == [page_file.as_uri()]
    context.close()


def methods(page: Any) -> list[str]:
    return page.locator(".scores .sortable tbody tr:visible th .text").all_inner_texts()  # type: ignore[no-any-return]


def test_a_column_is_sorted_by_its_numbers_and_a_third_click_restores_the_order(opened: Any) -> None:
    unsorted = ["Untrained trunk", "Contrastive", "Triplet", "ArcFace"]
    heading = opened.locator(".sortable thead th", has_text="MAP@R")
    for order, expected in (
        ("descending", ["Untrained trunk", "ArcFace", "Triplet", "Contrastive"]),
        ("ascending", unsorted),
        (None, unsorted),
    ):
        heading.get_by_role("button").click()
        assert methods(opened) == expected  # the baseline stays above the rule
        assert heading.get_attribute("aria-sort") == order


def test_a_filter_hides_methods_in_the_table_and_in_all_pictures(opened: Any) -> None:
    opened.get_by_label("Filter methods").fill("trip")
    assert methods(opened) == ["Triplet"]
    assert opened.locator("figure.picture svg [data-m]:visible").count() > 0
    assert set(opened.locator("[data-m]:not([hidden])").evaluate_all("all => all.map(one => one.dataset.m)")) == {"2"}
    opened.get_by_label("Filter methods").fill("")
    assert len(methods(opened)) == 4


@pytest.mark.parametrize(("name", "beginning"), [("LaTeX", "% needs"), ("markdown", "Digit pairs:")])
def test_a_table_is_copied(opened: Any, name: str, beginning: str) -> None:
    opened.get_by_role("button", name=f"Copy as {name}").click()
    opened.get_by_role("button", name="Copied").wait_for()
    copied = opened.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(beginning)
    assert copied.strip() == opened.locator(f"[data-source={name.lower()}]").text_content().strip()


def test_a_score_shows_its_interval_and_seeds_to_pointer_and_keyboard(opened: Any) -> None:
    cell, hint = opened.locator(".sortable tbody tr").nth(2).locator("td").nth(1), opened.locator("#hint")
    cell.hover()
    assert "95 % interval" in hint.inner_text()
    assert "seed 2:" in hint.inner_text()
    cell.press("ArrowRight")
    assert hint.inner_text().startswith("R@2:")
    opened.keyboard.press("Escape")
    assert hint.is_hidden()


def test_another_pair_of_methods_can_be_compared_class_by_class(opened: Any) -> None:
    first, second = opened.locator("select[data-pair]").all()
    assert opened.locator(".pair:visible p").first.inner_text().startswith("ArcFace is better in")
    first.select_option("Triplet")
    second.select_option("Untrained trunk")
    assert opened.locator(".pair:visible").count() == 1
    assert opened.locator(".pair:visible p").first.inner_text().startswith("Triplet is better in")
    second.select_option("Triplet")  # the first one becomes another method
    assert opened.locator(".pair:visible").count() == 1


def test_the_keyboard_reaches_a_visible_score_after_filtering_and_names_its_marker(opened: Any) -> None:
    opened.get_by_label("Filter methods").fill("arc")
    reached = opened.locator(".sortable td[tabindex='0']:visible")
    assert reached.count() == 1
    reached.focus()
    assert opened.locator("#hint").is_visible()
    named = opened.locator("figure.picture svg .named")
    assert set(named.evaluate_all("all => all.map(one => one.dataset.m)")) == {"3"}


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_page(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_no_table_is_cut_in_print(opened: Any) -> None:
    opened.set_viewport_size({"width": 1032, "height": 730})  # A4 landscape without its margins, at 96 dpi
    opened.emulate_media(media="print")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    rights = opened.locator("table:visible, pre:visible").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().right)"
    )
    assert len(rights) > 2
    assert max(rights) <= 1032
    table = opened.locator(".sortable").first
    sizes = [
        table.evaluate("(one, n) => { one.className = `sortable columns-${n}`; return getComputedStyle(one).fontSize; }", n)
        for n in range(1, 25)
    ]
    assert min(float(size.removesuffix("px")) for size in sizes) >= 8  # 6 pt
    assert opened.locator(".in-print").first.is_visible()
    assert opened.locator("details.query:not([open])").count() == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing(opened: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": width, "height": 900})
    opened.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    opened.locator(".queries, .picture").evaluate_all("all => all.forEach(one => { one.style.contentVisibility = 'visible'; })")
    result = axe.Axe().run(opened).response
    found = result["violations"]
    assert len(result["passes"]) > 10
    assert [(one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in found] == []
