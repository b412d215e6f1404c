"""The dashboard in Chromium: stories of its users, on a phone, in the dark, without JavaScript."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, expect

from rqd.store.keys import Keys
from tests.browser.conftest import Complaints, Show, World
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(90)

PHONE: Any = {"viewport": {"width": 390, "height": 844}}
EVIL = '"><img src=x onerror="window.ran = 1"><script>window.ran = 1</script>'
RUN_AXE = "(rules) => axe.run(document, rules).then((all) => [all.passes, all.violations])"
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
GRAVE = ("serious", "critical")
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()


def tile(page: Page, label: str) -> int:
    text = page.locator(".tile", has_text=label).locator("b").inner_text()
    return int(text.replace(",", ""))


def test_the_overview_follows_without_a_reload(show: Show, world: World) -> None:
    page = show("/")
    page.evaluate("window.stays = true")
    before = tile(page, "Finished")

    world.queue("free").enqueue_many(
        [world.queue("free").prepare_data("time.sleep", (0,)) for _ in range(3)]
    )
    eventually(lambda: tile(page, "Finished") == before + 3, 8)
    assert page.evaluate("window.stays")


def test_charts_are_drawn_and_stay_while_the_page_follows(show: Show, world: World) -> None:
    page = show("/")
    for kind in ("ended", "causes", "wait", "run"):
        expect(page.locator(f"figure[data-chart={kind}] canvas")).to_be_visible()
    expect(page.locator("figure[data-chart=causes]")).to_contain_text("crashed")
    page.evaluate("document.querySelector('figure[data-chart=wait] canvas').stays = true")
    before = tile(page, "Finished")

    world.queue("free").enqueue("time.sleep", 0)
    eventually(lambda: tile(page, "Finished") > before, 8)
    for kind in ("ended", "causes", "wait", "run"):
        expect(page.locator(f"figure[data-chart={kind}] canvas")).to_have_count(1)


def test_a_queue_is_paused_and_resumed_by_a_click(show: Show, world: World) -> None:
    queue = world.queue("free")
    queue.enqueue("time.sleep", 0)
    page = show("/queue?name=free")

    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status").filter(has_text="queue free paused")).to_be_visible()
    assert queue.is_paused
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    assert not queue.is_paused


def test_a_crashed_job_shows_its_cause_and_its_stack(show: Show, world: World) -> None:
    page = show(f"/job?id={world.jobs['crashed'].id}")

    expect(page.locator(".error").first).to_contain_text("SIGSEGV")
    expect(page.locator("details[open] pre").first).to_contain_text("crash")


def test_a_raised_exception_shows_its_traceback(show: Show, world: World) -> None:
    page = show(f"/job?id={world.jobs['raised'].id}")

    expect(page.locator("details[open] pre").first).to_contain_text("order 7 has no card")


def test_keys_lead_from_page_to_page_and_row_to_row(show: Show, world: World) -> None:
    page = show("/")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()

    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url("**/jobs")
    rows = page.locator("table.rows tbody tr")
    for key in "jjk":
        page.keyboard.press(key)
    expect(rows.first).to_have_class(re.compile("at"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/job?id=*")
    failed = [job.id for name, job in world.jobs.items() if name in ("raised", "crashed", "memory")]
    assert page.url.partition("id=")[2] in failed


def test_the_theme_is_switched_and_kept(show: Show) -> None:
    page = show("/", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)

    page.locator("#theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


def test_no_page_scrolls_sideways_on_a_phone(show: Show, world: World) -> None:
    page = show("/", **PHONE)
    for path in world.paths:
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_pages_and_actions_work_without_javascript(show: Show, world: World) -> None:
    page = show("/", java_script_enabled=False)
    page.get_by_text("Numbers").click()
    expect(page.locator("#numbers table")).to_contain_text("Wait p95")
    page.get_by_role("link", name="Hosts").click()
    page.get_by_text("Scale…").click()
    page.get_by_label("Workers").fill("+1")
    page.get_by_role("button", name="Scale").click()
    expect(page.get_by_role("status").first).to_contain_text("one: 4 workers, had 3")
    for path in world.paths:
        page.goto(path)
        expect(page.locator("h1")).to_have_count(1)


def test_a_running_job_is_stopped_with_grace(show: Show, world: World) -> None:
    job = world.queue("free").enqueue("time.sleep", 300)
    page = show("/running")

    row = page.locator(f"#job-{job.id}")
    row.get_by_text("Stop…").click()
    row.get_by_label("Kill after").fill("1")
    row.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").first).to_contain_text("is asked to stop")
    eventually(lambda: job.get_status() == "stopped", 8)


def test_a_group_of_failures_runs_again_after_its_count(show: Show, world: World) -> None:
    queue = world.queue("free")
    jobs = [queue.enqueue("time.no_such_function") for _ in "ab"]
    for job in jobs:
        eventually(lambda job=job: job.is_failed, 8)  # type: ignore[misc]  # a lambda with a default has no type
    page = show("/failures?filter=function:time.no_such_function")

    row = page.locator("tr", has_text="time.no_such_function")
    expect(row.locator("td").first).to_have_text("2")
    row.get_by_role("link", name="Retry…").click()
    expect(page.locator("main")).to_contain_text("2 jobs match")
    page.get_by_role("button", name="Retry 2").click()
    expect(page.locator("main")).to_contain_text("2 done")
    page.get_by_role("link", name="Back to the list").click()
    page.wait_for_url("**/jobs?*no_such_function*")
    for job in jobs:
        eventually(lambda job=job: len(job.results()) == 2, 8)  # type: ignore[misc]  # as above


def test_words_choose_the_jobs_of_the_list(show: Show, world: World) -> None:
    page = show("/jobs")
    found = page.locator("table.rows tbody tr")

    page.get_by_label("Filter").fill("cause:crashed queue:work")
    page.get_by_role("button", name="Filter").click()
    expect(found).to_have_count(1)
    expect(found).to_contain_text("shop_in_browser.crash")
    page.get_by_label("Filter").fill("cause:")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#filter-error")).to_be_visible()
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("#filter-error")).to_be_hidden()
    assert found.count() > 1


def test_a_master_is_paused_and_resumed_by_a_click(show: Show, world: World) -> None:
    page = show("/hosts")
    master = page.locator("#master-one")

    master.get_by_text("Pause", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("one: paused")
    master.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status").first).to_contain_text("one: ")
    expect(master.get_by_role("button", name="Pause")).to_be_visible()


def test_a_cron_entry_is_run_paused_and_resumed_by_a_click(show: Show, world: World) -> None:
    page = show("/cron")
    row = page.locator("tr", has_text="nightly")

    row.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("status").first).to_contain_text("enqueued")
    row.get_by_role("button", name="Pause").click()
    expect(row.locator(".state")).to_have_text("paused")
    row.get_by_role("button", name="Resume").click()
    expect(row.locator(".state")).to_have_text("active")


def test_a_limit_leads_to_the_job_that_holds_it(show: Show, world: World) -> None:
    page = show("/limits")
    cells = page.locator("tr", has_text="crm").locator("td")

    expect(cells.nth(1)).to_have_text("1")
    expect(cells.nth(5)).to_have_text("1")
    cells.last.get_by_role("link").click()
    page.wait_for_url(f"**/job?id={world.jobs['started'].id}")


def test_a_graph_leads_to_the_job_that_waits_and_back(show: Show, world: World) -> None:
    held = world.jobs["started"]
    waits = world.queue("free").enqueue("time.sleep", 0, depends_on=held)
    page = show(f"/job?id={held.id}")

    page.locator(".graph").locator(f"a[href*='{waits.id}']").click()
    page.wait_for_url(f"**/job?id={waits.id}")
    page.locator(".graph").locator(f"a[href*='{held.id}']").click()
    page.wait_for_url(f"**/job?id={held.id}")
    waits.cancel()


def test_times_are_in_the_viewers_zone(show: Show, world: World) -> None:
    job = world.jobs["finished"]
    assert job.ended_at is not None
    there = f"{job.ended_at.astimezone(ZoneInfo('Asia/Kathmandu')):%H:%M:%S}"
    page = show(f"/job?id={job.id}", timezone_id="Asia/Kathmandu", locale="en-GB")

    times = page.locator("time").evaluate_all(
        "(all) => all.map((one) => one.title + one.textContent)"
    )
    assert any(there in one for one in times), times


def test_a_hidden_tab_follows_nothing_until_it_is_shown_again(show: Show, world: World) -> None:
    page = show("/")
    page.wait_for_function("stream !== null")
    hide = "(is) => { Object.defineProperty(document, 'hidden', { value: is, configurable: true });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    page.wait_for_function("stream === null")
    before = tile(page, "Finished")
    job = world.queue("free").enqueue("time.sleep", 0)
    eventually(lambda: job.is_finished, 8)
    assert tile(page, "Finished") == before

    page.evaluate(hide, False)
    eventually(lambda: tile(page, "Finished") > before, 8)


def test_no_page_breaks_the_policy_or_writes_an_error(show: Show, world: World) -> None:
    page = show("/")
    for path in world.paths:
        page.goto(path)
        expect(page.locator("h1")).to_have_count(1)  # the fixture looks for complaints


# In the dark only the contrast differs.
@pytest.mark.parametrize(("scheme", "rules"), [("light", {}), ("dark", CONTRAST)])
def test_axe_finds_nothing_grave_on_any_page(
    show: Show, world: World, scheme: str, rules: dict[str, Any]
) -> None:
    page = show("/", color_scheme=scheme)
    found = []
    for path in world.paths:
        page.goto(path)
        page.evaluate(AXE)
        passes, violations = page.evaluate(RUN_AXE, rules)
        assert passes, path
        found += [
            f"{path}: {one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in violations
            if one["impact"] in GRAVE
        ]

    assert not found, "\n".join(found)


def test_texts_of_hostile_jobs_run_nothing(show: Show, world: World) -> None:
    queue = world.queue("evil")
    job = queue.enqueue("shop.mail")
    queue.enqueue("shop.mail")
    fields = ("func_name", "description", "cause", "worker")
    redis = queue.connection.store.redis
    redis.hset(Keys().job(job.id), mapping=dict.fromkeys(fields, EVIL))
    redis.hset(Keys().master("one"), mapping={"reload": "refused", "reload_error": EVIL})
    page = show("/")
    for path in (*world.paths, "/queue?name=evil", "/jobs?state=queued", f"/job?id={job.id}"):
        page.goto(path)
        expect(page.locator("h1")).to_have_count(1)
        assert page.evaluate("window.ran") is None, path
        assert page.locator("img[src=x]").count() == 0, path
    assert page.locator("h1").inner_text().startswith('">')


def test_the_pages_say_that_redis_is_away_and_come_back(
    show: Show, world: World, complaints: Complaints
) -> None:
    page = show("/")
    expect(page.locator("#away")).to_be_hidden()

    world.server.freeze()
    try:
        expect(page.locator("#away")).to_be_visible(timeout=15_000)
    finally:
        world.server.thaw()
    expect(page.locator("#away")).to_be_hidden(timeout=15_000)
    complaints.clear()
