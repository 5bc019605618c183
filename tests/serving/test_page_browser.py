"""The page in a real browser: Chromium as the system has it, driven by playwright."""

from __future__ import annotations

import re
import shutil
from urllib.parse import urlencode

import pytest
from serving_client import serving
from serving_models import PASSAGES

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
KEY = "a-good-key-1"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Without a sandbox it also runs as root in a container; it sees nothing but the server of these tests.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def two_models(model, other_model, index_folder, write_index):
    indexes = {"docs": index_folder, "others": write_index(other_model)}
    with serving(model, other_model, indexes=indexes) as (url, _):
        yield url


@pytest.fixture
def opened(browser):
    """Open the page of a server with what it shall show; fails the test if the browser complains of anything."""
    complaints, contexts = [], []

    def open_page(url, *, locale="en-US", excused="", context=None, **state):
        if context is None:
            context = browser.new_context(locale=locale)
            context.set_default_timeout(15_000)
            contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type in ("error", "warning") and not (excused and excused in message.text)
                else None
            ),
        )
        page.goto(f"{url}/#{urlencode(state)}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def expect(page, selector):
    return sync_api.expect(page.locator(selector))


def test_a_search_shows_hits_with_scores_and_highlights(opened, search_url):
    page = opened(search_url)
    expect(page, "#search .status").to_have_text("5 passages in docs, embedded by zh.")
    page.keyboard.type("房东退押金")  # the query has the focus
    page.keyboard.press("Enter")
    expect(page, "#search .hit").to_have_count(len(PASSAGES))
    first = page.locator("#search .hit", has_text=PASSAGES[0]["text"])
    assert "".join(first.locator("mark").all_inner_texts()).endswith("押金")
    scores = first.locator(".score").all_inner_texts()
    assert [score.split()[0] for score in scores] == ["fused", "vectors", "words"]
    assert all(re.search(r"-?\d\.\d{4} #\d$", score) for score in scores)
    widths = page.locator("#search .hit .fused .bar span").evaluate_all("bars => bars.map(bar => bar.style.width)")
    assert widths[0] == "100%"
    assert "q=%E6%88%BF" in page.url


def test_an_address_is_a_search(opened, search_url):
    page = opened(search_url, q="押金", mode="bm25", filter="year >= 2021")
    expect(page, "#search .hit").to_have_count(2)
    expect(page, "#search .status").to_contain_text("2 of 5 passages")
    page.select_option("#search [name=mode]", "dense")  # a choice is searched with at once
    expect(page, "#search .hit").to_have_count(4)
    page.go_back()
    expect(page, "#search .hit").to_have_count(2)


def test_what_a_passage_holds_stays_text(opened, search_url):
    page = opened(search_url, q="押金条", filter="year = 2023")
    expect(page, "#search .hit").to_have_count(1)
    page.click("#search .more")
    assert page.inner_text("#search .hit .text") == PASSAGES[3]["text"]
    assert page.locator("#search .hit mark").all_inner_texts() == ["押金条"]  # behind two characters of two units each
    assert page.locator("#search .hit script, #search .hit img").count() == 0
    page.goto(f"{search_url}/#" + urlencode({"q": "<img src=x onerror=\"document.title='x'\">泡茶"}))
    expect(page, "#search .hit").to_have_count(len(PASSAGES))
    assert "<b>泡茶</b>" in "".join(page.locator("#search .title").all_inner_texts())
    lines = "<script>document.title='x'</script>\n<img src=x onerror=\"document.title='x'\">"
    page.goto(f"{search_url}/#" + urlencode({"tab": "similarity", "text": "<b>a</b>", "lines": lines}))
    expect(page, "#similarity .line").to_have_count(2)
    assert {*page.locator("#similarity .line .text").all_inner_texts()} == {*lines.split("\n")}
    assert page.locator("main script, main img, main b").count() == 0
    assert page.title() == "zhihui"


def test_a_script_would_not_run_even_if_it_got_in(opened, search_url):
    page = opened(search_url, excused="Content Security Policy")
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', `<img src=page/icon.svg onload=\"document.title='x'\">`)"
    )
    page.wait_for_function("document.querySelector('img').complete")
    assert page.title() == "zhihui"


def test_two_models_side_by_side(opened, two_models):
    page = opened(two_models, tab="compare", q="房东退押金")
    expect(page, "#compare .hit").to_have_count(2 * len(PASSAGES))
    abouts = page.locator("#compare .about").all_inner_texts()
    assert abouts == [
        "Index docs, ranked by vectors; model zh.",
        "Index others, ranked by vectors; model other.",
    ]
    expect(page, "#compare .status").to_have_text("5 of the first 5 are the same.")
    orders = [page.locator(f"#compare .side >> nth={side}").locator(".hit .text").all_inner_texts() for side in (0, 1)]
    places = page.locator("#compare .side >> nth=0").locator(".moved").all_inner_texts()
    assert places == [f"B: #{orders[1].index(text) + 1}" for text in orders[0]]


def test_a_model_without_an_index_ranks_anew_what_the_other_found(opened, model, other_model, index_folder):
    with serving(model, other_model, indexes={"docs": index_folder}) as (url, _):
        page = opened(url, tab="compare", q="房东退押金")
        expect(page, "#compare .hit").to_have_count(2 * len(PASSAGES))
        about = page.locator("#compare .about").all_inner_texts()[1]
        assert "ordered by their cosine under other" in about
        assert "cannot find what A missed" in about
        shown = page.locator("#compare .side >> nth=1").locator(".hit .rescored").all_inner_texts()
        values = [float(each.split()[-1]) for each in shown]
        assert values == sorted(values, reverse=True)
        vectors = other_model.encoder.encode_documents(
            [f"{row.get('title', '')} {row['text']}".strip() for row in PASSAGES]
        )
        cosines = vectors @ other_model.encoder.encode_queries(["房东退押金"])[0]
        assert values == pytest.approx(sorted(map(float, cosines), reverse=True), abs=1e-4)


def test_lines_are_sorted_by_their_cosine(opened, search_url, encoder):
    lines = [row["text"] for row in PASSAGES[:3]]
    page = opened(search_url, tab="similarity")
    page.fill("#similarity [name=text]", "押金")
    page.fill("#similarity [name=lines]", "\n\n".join(lines))
    page.click("#similarity .go")
    expect(page, "#similarity .line").to_have_count(3)
    cosines = encoder.encode(["押金", *lines], role="document") @ encoder.encode(["押金"], role="document")[0]
    order = sorted(range(3), key=lambda number: -cosines[number + 1])
    assert page.locator("#similarity .line .text").all_inner_texts() == [lines[number] for number in order]
    values = [float(value) for value in page.locator("#similarity .value").all_inner_texts()]
    assert values == pytest.approx(sorted(map(float, cosines[1:]), reverse=True), abs=1e-4)
    page.select_option("#similarity [name=as]", "query")
    cosines = encoder.encode_documents(lines) @ encoder.encode_queries(["押金"])[0]
    expect(page, "#similarity .value >> nth=0").to_have_text(f"{cosines.max():.4f}")


def test_the_language_is_the_browsers_until_another_is_chosen(opened, search_url):
    page = opened(search_url, locale="zh-TW", q="押金")
    expect(page, "#tab-search").to_have_text("检索")
    expect(page, "#search .status").to_contain_text("5 个段落中的 5 个")
    page.click("#language")
    expect(page, "#tab-search").to_have_text("Search")
    expect(page, "#search .status").to_contain_text("5 of 5 passages")
    assert page.get_attribute("html", "lang") == "en"
    page.reload()
    expect(page, "#tab-search").to_have_text("Search")
    assert page.get_attribute("#search [name=q]", "aria-label") == "Query"


def test_a_key_is_asked_for_and_kept_by_the_tab_alone(opened, model, index_folder):
    with serving(model, indexes={"docs": index_folder}, keys=(KEY,)) as (url, _):
        page = opened(url, excused="401", q="押金")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        expect(page, "#search .status").to_contain_text("wants an API key")
        page.click("#search .go")
        for key in ("wrong-key-1", "密钥"):
            page.fill("#key input", key)
            page.keyboard.press("Enter")
            expect(page, "#key .status").to_have_text("The server does not take this key.")
            expect(page, "dialog").to_be_visible()
        page.fill("#key input", KEY)
        page.click("#key .go")
        expect(page, "#search .hit").to_have_count(len(PASSAGES))
        assert page.evaluate("Object.values(sessionStorage)") == [KEY]
        assert KEY not in str(page.evaluate("[{...localStorage}, document.cookie, location.href]"))
        page.reload()
        expect(page, "#search .hit").to_have_count(len(PASSAGES))
        other = opened(url, excused="401", context=page.context)
        other.wait_for_selector("dialog[open]")


def test_all_is_done_by_keys(opened, two_models):
    page = opened(two_models)

    def focused():
        return page.evaluate(
            "(it => [it.closest('section')?.id, it.name || it.className || it.id])(document.activeElement)"
        )

    expect(page, "#search .status").to_contain_text("passages in docs")
    page.keyboard.type("1 押金/2")  # in a field these are letters
    page.keyboard.press("Enter")
    expect(page, "#search .hit").to_have_count(len(PASSAGES))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.querySelector('.title').textContent").startswith("2. ")
    page.keyboard.press("Enter")
    expect(page, "#search .hit:focus .more").to_have_attribute("aria-expanded", "true")
    expect(page, "#search .hit:focus .facts").to_contain_text("year")
    for _ in range(2):
        page.keyboard.press("ArrowUp")
    assert focused() == ["search", "q"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("/")
    assert focused() == ["search", "q"]
    assert page.input_value("#search [name=q]") == "1 押金/2"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("2")
    expect(page, "#compare .hit").to_have_count(2 * len(PASSAGES))  # with the same query
    assert focused() == [None, "tab-compare"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(page, "#compare .side >> nth=1 >> .hit:focus .title").to_contain_text("1. ")
    page.keyboard.press("3")
    expect(page, "#similarity").to_be_visible()
    page.keyboard.press("ArrowRight")  # on the tabs: round to the first
    expect(page, "#search").to_be_visible()
    page.keyboard.press("Escape")
    expect(page, "#search .hit").to_have_count(0)
    assert page.input_value("#search [name=q]") == ""
    assert focused() == ["search", "q"]


def test_what_goes_wrong_is_said_in_words(opened, search_url, model, index_folder):
    page = opened(search_url, excused="400", q="押金", filter="yaer = 1")
    expect(page, "#search .status.bad").to_contain_text("did you mean year?")
    page.fill("#search [name=filter]", "year = 1999")
    page.keyboard.press("Enter")
    expect(page, "#search .status").to_have_text("Nothing found among the passages that meet the filter.")
    with serving(model) as (url, _):
        page = opened(url, q="押金")
        expect(page, "#search .status").to_contain_text("zhihui serve MODEL --index INDEX")
        page.click("#tab-compare")
        expect(page, "#compare .status").to_contain_text("No index is served here")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["search", "compare", "similarity"])
def test_it_fits_a_narrow_window_and_either_scheme(browser, two_models, tab, scheme):
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme=scheme, locale="en-US")
    page = context.new_page()
    page.goto(f"{two_models}/#{urlencode({'tab': tab, 'q': '押金', 'text': '押金', 'lines': 'a' * 300})}")
    expect(page, f"#{tab} :is(.hit, .line) >> nth=0").to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    red, green, blue = map(
        int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    )
    assert (min(red, green, blue) > 200) == (scheme == "light")
    context.close()
