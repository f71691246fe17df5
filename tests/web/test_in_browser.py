"""The application in a real browser: no error on the console, no request to elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from server_helpers import serving
from web_helpers import encoded, noise


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def address(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server over runs that the tests do not change."""
    with serving(trained, "runs", "--runs", str(tmp_path_factory.mktemp("ratings"))) as (_, found):
        yield found


@contextmanager
def page_of(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A new page, which has to leave the console empty and to ask nobody else."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    context.set_default_timeout(60_000)  # the first image waits for the import of torch
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda one: None if one.url.startswith((address, "blob:")) else problems.append(one.url))
    try:
        yield page
        assert problems == []
    finally:
        context.close()


def loaded(page: Any) -> bool:
    """Whether all pictures of a page are shown."""
    page.wait_for_load_state("networkidle")
    shown: bool = page.eval_on_selector_all("img", "all => all.every(one => one.loading == 'lazy' || one.naturalWidth == 224)")
    return shown


def wait_for_count(page: Any, selector: str, count: int) -> None:
    """Wait until a page has a number of elements; a click returns before the next page is there."""
    page.wait_for_function("([found, n]) => document.querySelectorAll(found).length == n", arg=[selector, count])


def begin_rating(page: Any, address: str, queries: int, name: str) -> str:
    """Make a study of some queries and open its first query as a rater; the address of its results."""
    page.goto(f"{address}/rate")
    page.fill("input[name=queries]", str(queries))
    page.click("text=Begin a study")
    results: str = page.inner_text("pre >> nth=1")
    page.click("main a:text-is('Rate')")
    page.fill("input[name=name]", name)
    page.click("button:text-is('Begin')")
    page.wait_for_url("**query=1")
    return results


def test_a_chosen_file_is_uploaded_and_its_neighbours_are_shown(browser: Any, address: str) -> None:
    with page_of(browser, address) as page:
        page.goto(address)
        photo = {"name": "../photo.png", "mimeType": "image/png", "buffer": encoded(noise(40, 60))}
        page.set_input_files("input[type=file]", photo)
        page.wait_for_url("**upload=**")
        wait_for_count(page, ".hits li", 10)
        assert "60 \u00d7 40 pixels" in page.inner_text("figcaption")
        assert loaded(page)


def test_an_image_is_dropped_or_pasted(browser: Any, address: str) -> None:
    content = base64.b64encode(encoded(noise(30, 30))).decode()
    transfer = (
        "data => { const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)); const all = new DataTransfer(); "
        "all.items.add(new File([bytes], 'x.png', {type: 'image/png'})); return all; }"
    )
    with page_of(browser, address) as page:
        page.goto(address)
        page.dispatch_event("form.upload", "drop", {"dataTransfer": page.evaluate_handle(transfer, content)})
        page.wait_for_url("**upload=**")
        page.goto(f"{address}/compare")
        page.evaluate(
            f"data => document.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: ({transfer})(data)}}))", content
        )
        page.wait_for_url("**/compare?upload=**")
        wait_for_count(page, "section.side", 4)
        assert "30 \u00d7 30 pixels" in page.inner_text("main")


def test_a_file_that_is_no_image_is_refused_in_the_page(browser: Any, address: str) -> None:
    with page_of(browser, address) as page:
        page.goto(address)
        page.set_input_files("input[type=file]", {"name": "x.txt", "mimeType": "text/plain", "buffer": b"hello"})
        page.wait_for_function("document.getElementById('message').textContent != ''")
        assert page.text_content("#message") == "This is not an image."


def test_a_page_without_scripts_uploads_and_searches(browser: Any, address: str) -> None:
    with page_of(browser, address, java_script_enabled=False) as page:
        page.goto(address)
        page.set_input_files("input[type=file]", {"name": "x.png", "mimeType": "image/png", "buffer": encoded(noise(9, 9))})
        page.click("text=Search with it")
        wait_for_count(page, ".hits li", 10)
        page.goto(address)
        page.select_option("select[name=dataset]", index=1)
        page.click("button:text-is('Search')")
        page.wait_for_url("**dataset=**")
        assert f"dataset={page.input_value('select[name=dataset]')}" in page.url


def test_a_test_query_is_picked_and_answered_by_all_models(browser: Any, address: str) -> None:
    with page_of(browser, address) as page:
        page.goto(address)
        page.click(".grid a >> nth=0")
        page.wait_for_url("**query=**")  # until everything is loaded
        wait_for_count(page, ".hits li", 10)
        wait_for_count(page, ".hits .right, .hits .wrong", 10)
        page.click("text=Ask all models")
        wait_for_count(page, "section.side", 4)
        wait_for_count(page, "section.side li", 20)
        assert loaded(page)


def test_choosing_another_data_set_keeps_no_model_of_the_last_one(browser: Any, address: str) -> None:
    with page_of(browser, address) as page:
        page.goto(address)
        page.click(".grid a >> nth=0")
        page.select_option("select[name=dataset]", label="All data sets at once")
        page.wait_for_url("**dataset=all**")
        page.select_option("select[name=dataset]", index=1)
        page.wait_for_url("**/?dataset=second**")
        assert "Error" not in page.title()


def test_ten_images_are_rated_by_keyboard_and_click_and_are_still_rated_after_a_reload(browser: Any, address: str) -> None:
    with page_of(browser, address) as page:
        results = begin_rating(page, address, 4, "Ann")
        rated = query = 0
        while rated < 10:
            query += 1
            page.wait_for_url(f"**query={query}")
            n_images = page.locator("[data-item]").count()
            for number in range(min(n_images, 10 - rated)):
                if number % 2:
                    page.keyboard.press(str(1 + number % 5))
                    page.wait_for_function("n => document.querySelectorAll('[aria-pressed=true]').length == n", arg=number + 1)
                else:
                    page.locator("[data-item]").nth(number).locator("button").nth(number % 5).click()
                    page.wait_for_function("n => document.querySelectorAll('[aria-pressed=true]').length == n", arg=number + 1)
                    page.locator("[data-item]").nth(min(number + 1, n_images - 1)).focus()
                rated += 1
            before = page.eval_on_selector_all("[aria-pressed=true]", "all => all.map(one => one.value)")
            page.reload()
            assert page.eval_on_selector_all("[aria-pressed=true]", "all => all.map(one => one.value)") == before
            if rated < 10:
                page.focus("[data-item]")
                page.keyboard.press("Enter")
        page.goto(results)
        assert "10 ratings by 1 rater" in page.inner_text("#results")
        page.wait_for_selector("#results svg >> nth=1")


def test_ratings_that_are_on_their_way_are_awaited_before_the_next_query(browser: Any, address: str) -> None:
    with page_of(browser, address) as page:
        results = begin_rating(page, address, 1, "Ben")
        held: list[Any] = []
        page.route("**/score", lambda route: held.append(route))
        n_images = page.locator("[data-item]").count()
        page.keyboard.press("2")
        page.focus("[data-item] >> nth=0")
        for _ in range(n_images):
            page.keyboard.press("4")
        page.keyboard.press("Enter")
        page.wait_for_function("document.getElementById('message').textContent.startsWith('Saving ')")
        while not page.url.endswith("query=2"):
            while held:
                held.pop(0).continue_()
            page.wait_for_timeout(20)
        page.wait_for_selector("h1:has-text('Thank you')")
        page.goto(results)
        assert f"{n_images} ratings by 1 rater" in page.inner_text("#results")
        assert set(page.locator("#results tbody tr td:nth-child(4)").all_inner_texts()) <= {"4.00", ""}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_no_page_is_wider_than_the_screen(browser: Any, address: str, width: int, scheme: str) -> None:
    with page_of(browser, address, color_scheme=scheme) as page:
        page.set_viewport_size({"width": width, "height": 800})
        for path in (
            "/",
            "/?query=21",
            "/compare?query=21",
            "/rate",
            "/algorithms",
            "/algorithms/softtriple",
            "/downloads",
            "/api",
        ):
            page.goto(address + path)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def test_axe_finds_nothing_serious(browser: Any, address: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    every = (
        "/",
        "/?query=21",
        "/compare?query=21",
        "/rate",
        "/algorithms",
        "/algorithms/arcface",
        "/downloads",
        "/models",
        "/api",
    )
    for scheme, paths in (("light", every), ("dark", every[:3])):
        context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # the checker is a script in the page
        page = context.new_page()
        try:
            for path in paths:
                page.goto(address + path)
                found = axe.run(page).response["violations"]
                serious = [
                    (one["id"], one["nodes"][0]["html"][:120]) for one in found if one["impact"] in ("serious", "critical")
                ]
                assert serious == [], path
        finally:
            context.close()
