"""The site in a real browser, opened from the disk. Skipped, with the reason, where no browser is installed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium

BOARD = "boards/digits/quick-v1.html"
Open = Callable[[str], Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Any, study: Path) -> Iterator[Open]:
    """A function that opens a page of the site; nothing is printed to the console, and nothing else is requested."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"])
    page, printed, requested = context.new_page(), [], []
    page.on("console", lambda message: printed.append(message.text))
    page.on("pageerror", lambda error: printed.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    root = (study / "site").as_uri()

    def go(path: str) -> Any:
        page.goto(f"{root}/{path}")
        return page

    yield go
    assert printed == []
    assert [url for url in requested if not url.startswith((root, "data:"))] == []
    context.close()


def methods(page: Any, table: int = 1) -> list[str]:
    return page.locator(f"#table-{table} tbody tr:visible a.text").all_inner_texts()  # type: ignore[no-any-return]


def test_methods_are_filtered_by_name_tier_seeds_trunk_and_training(opened: Open) -> None:
    page = opened(BOARD)
    everything = ["ArcFace", "Triplet", "Contrastive", "Untrained trunk"]
    assert (methods(page), methods(page, 2)) == (everything, ["ArcFace", "Triplet"])
    for label, value, first, second in (
        ("Tier", "2", ["ArcFace"], []),
        ("Seeds", "2", everything, []),
        (re.compile("^Trunk"), "MobileNetV2", [], ["ArcFace", "Triplet"]),
        ("Training", "yes", [], ["ArcFace", "Triplet"]),
    ):
        page.get_by_role("combobox", name=label).select_option(value)
        assert (methods(page), methods(page, 2)) == (first, second)
        page.get_by_role("button", name="Reset").click()
    page.get_by_label("Method", exact=True).fill("arc")
    assert (methods(page), methods(page, 2)) == (["ArcFace"], ["ArcFace"])
    assert page.locator("#table-1 figure.picture [data-m]:visible").count() > 0
    assert page.locator("#table-1 figure.picture [data-m]:visible >> text=Triplet").count() == 0
    page.get_by_label("Method", exact=True).fill("cons")  # the tier of some, and part of no name
    assert (methods(page), methods(page, 2)) == ([], [])
    page.get_by_label("Method", exact=True).fill("nothing")
    assert page.locator("p.empty").is_visible()
    assert page.locator(".table-section:visible").count() == 0


def test_filters_are_part_of_the_address(opened: Open) -> None:
    page = opened(BOARD)
    page.get_by_role("combobox", name="Tier").select_option("2")
    assert page.url.endswith("#tier=2")
    page = opened(f"{BOARD}?again#tier=2")
    assert methods(page) == ["ArcFace"]


def test_a_column_is_sorted_by_its_numbers(opened: Open) -> None:
    page = opened(BOARD)
    heading = page.locator("#table-1 thead th", has_text="R@1").get_by_role("button")
    for order in ("descending", "ascending"):
        heading.click()
        cells = page.locator("#table-1 tbody").first.locator("tr td:nth-child(6)").all_inner_texts()
        numbers = [float(one.split()[0]) for one in cells]
        assert numbers == sorted(numbers, reverse=order == "descending")


def test_the_search_works_from_the_disk_and_without_reloading(opened: Open) -> None:
    page = opened("entries/" + next(iter_entries(opened)))
    page.get_by_role("searchbox").fill("arcface rescored")
    page.get_by_role("searchbox").press("Enter")
    page.wait_for_url("**/search.html?q=arcface+rescored")
    found = page.locator("[data-found] a").all_inner_texts()
    assert [one.partition(" (")[0] for one in found] == ["ArcFace, Digit pairs, ConvNet"]
    page.get_by_role("searchbox").fill("softtriple cub")
    assert all("digits" not in one.lower() for one in page.locator("[data-found] a").all_inner_texts())
    assert page.locator("[data-found] .kind").first.inner_text() == "paper"
    page.get_by_role("searchbox").fill("zzz")
    assert page.locator("[data-count]").inner_text() == "0 found"
    page.get_by_role("searchbox").fill("arcface rescored")
    page.locator("[data-found] a").first.click()
    page.wait_for_url("**/entries/digits/quick-v1/arcface/*.html")


def iter_entries(opened: Open) -> Iterator[str]:
    page = opened(BOARD)
    for link in page.locator("#table-1 td.seeds a").evaluate_all("all => all.map(one => one.href)"):
        yield link.partition("/entries/")[2]


def test_a_run_is_found_by_its_id(opened: Open) -> None:
    entry = [*iter_entries(opened)][1]
    page = opened("search.html")
    page.get_by_role("searchbox").fill(Path(entry).stem)
    assert page.locator("[data-found] a").all_inner_texts() == [Path(entry).stem]
    page.locator("[data-found] a").click()
    page.wait_for_url(f"**/{entry}")


def test_the_command_of_an_entry_is_copied_and_wrapped(opened: Open) -> None:
    page = opened("entries/" + next(iter_entries(opened)))
    page.get_by_role("button", name="Copy the command").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("dmlbench train ")
    assert page.locator("pre[data-source=command]").evaluate("one => getComputedStyle(one).whiteSpace") == "pre-wrap"


@pytest.mark.parametrize("width", [1280, 390])
def test_rank_name_score_and_seeds_are_visible_also_with_long_names(width: int, opened: Open) -> None:
    page = opened(BOARD)
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("#table-1 a.text").first.evaluate("one => { one.textContent = 'A long name of a method '.repeat(5); }")
    visible = page.locator("#table-1 tbody tr").first.locator("th:visible, td:visible")
    ends = visible.evaluate_all("all => all.map((one) => one.getBoundingClientRect().right)")
    n_first = 4 + page.locator("#table-1 td.tier-column").first.is_visible()
    assert visible.nth(n_first - 1).get_attribute("class") == "seeds"
    assert ends[n_first - 1] <= width


def test_latex_is_copied(opened: Open) -> None:
    page = opened("entries/" + next(iter_entries(opened)))
    page.get_by_role("button", name="Copy as LaTeX").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").endswith("\\\\")


PAGES = (
    "index.html",
    BOARD,
    "entry",
    "methods.html",
    "methods/triplet.html",
    "published/cub.html",
    "search.html?q=cub",
    "about.html",
)


def page_of(opened: Open, name: str) -> Any:
    return opened("entries/" + next(iter_entries(opened)) if name == "entry" else name)


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_window(opened: Open, width: int) -> None:
    for name in (*PAGES, "columns.html", "problems.html"):
        page = page_of(opened, name)
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_links_can_be_touched_on_a_phone(opened: Open) -> None:
    page = opened(BOARD)
    page.set_viewport_size({"width": 390, "height": 800})
    sizes = page.locator("header.site a:visible, .filters input, .filters select, button:visible, td.seeds a").evaluate_all(
        "all => all.map(one => [one.textContent, one.getBoundingClientRect().height, one.getBoundingClientRect().width])"
    )
    assert len(sizes) > 10
    assert [one for one in sizes if min(one[1:]) < 24] == []


def check_with_axe(page: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    result = axe.Axe().run(page, options={"preload": False}).response  # which would request the style sheet once more
    assert len(result["passes"]) > 10
    assert [(one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in result["violations"]] == []


def test_axe_finds_nothing_on_the_pages_of_results_and_entries(opened: Open) -> None:
    check_with_axe(opened(BOARD), "light", 1280)
    check_with_axe(page_of(opened, "entry"), "dark", 390)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_on_any_page(opened: Open, name: str, scheme: str, width: int) -> None:
    check_with_axe(page_of(opened, name), scheme, width)
