"""What an annotator and an operator see, in a real browser."""

import io
import os
import shutil
import time

import pytest
import yaml
from PIL import Image

from ls_pipeline.cli.context import CliContext, create_dagster_home
from ls_pipeline.cli.demo import samples
from ls_pipeline.cli.servers.local_servers import dagster_server
from ls_pipeline.cli.servers.server import running

pytestmark = [pytest.mark.server, pytest.mark.browser]

PATIENCE = 120
"""Seconds to wait for what takes a few on an idle machine."""

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def page():
    if not CHROMIUM:
        pytest.skip("this machine lacks chromium; scripts/chromium installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        yield page
        browser.close()


def log_in(page, server):
    page.goto(f"{server.url}/user/login/")
    page.fill("input[name=email]", server.environment["LABEL_STUDIO_USERNAME"])
    page.fill("input[name=password]", server.environment["LABEL_STUDIO_PASSWORD"])
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "login" not in url)


def colours(page):
    """Return the number of pixels of each colour, once the page shows the picture."""
    is_shown = f"() => [...document.images].some(image => image.naturalWidth === {samples.WIDTH})"
    page.wait_for_function(is_shown)
    page.wait_for_timeout(1000)  # it fades in
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return {colour: count for count, colour in picture.getcolors(picture.width * picture.height)}


@pytest.mark.parametrize("cloud", ["s3", "gcs"])
def test_annotator_sees_the_picture(stage, page, label_studio_server, cloud):
    source = getattr(stage, cloud)("in")
    key, body = samples.pictures(1)[0]
    source.put(key, body, "image/png")
    stage.add("shapes", samples.PICTURE_CONFIG, source, None, {"use_blob_urls": True})
    stage.run_program("sync")  # Playwright's event loop runs in this process
    (task,) = stage.tasks("shapes")
    log_in(page, label_studio_server)
    project = task.document["project"]
    page.goto(f"{label_studio_server.url}/projects/{project}/data?task={task.task_id}")
    pixels = colours(page)
    expected = {samples.BACKGROUND, *(samples.COLORS[shape.kind] for shape in samples.shapes(0))}

    assert all(pixels.get(rgb(colour), 0) > 1000 for colour in expected)


def pick_partition(page, name):
    """Open the list until it stays open: the page may be drawn again, which closes the list."""
    entry = page.get_by_text(name, exact=True)
    deadline = time.monotonic() + PATIENCE
    while not entry.is_visible():
        assert time.monotonic() < deadline, f"{name} can't be selected"
        page.get_by_placeholder("Partition").click()
        page.wait_for_timeout(1000)
    entry.click()


def launch(page, dagster, name, settings):
    """Change a source's settings in the launchpad; return those that the form opened with."""
    job = "save_source_settings"
    page.goto(f"{dagster.url}/locations/ls_pipeline.definitions/jobs/{job}/playground")
    pick_partition(page, name)
    editor = "document.querySelector('.CodeMirror').CodeMirror"
    page.wait_for_function(f"() => {editor}.getValue().includes('saved_by')")
    form = yaml.safe_load(page.evaluate(f"{editor}.getValue()"))
    shown = dict(form["ops"]["source_settings"]["config"])
    form["ops"]["source_settings"]["config"] |= settings
    page.evaluate(f"text => {editor}.setValue(text)", yaml.dump(form))
    page.get_by_role("button", name="Launch Run").click()
    page.wait_for_url("**/runs/**")
    return shown


def add_partition(page, dagster, name):
    page.goto(f"{dagster.url}/assets/source_settings")
    page.get_by_role("button", name="Materialize…").click()
    page.get_by_role("button", name="Add a partition").click()
    page.get_by_placeholder("name").fill(name)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Launch 1 run").wait_for()
    page.get_by_role("button", name="Cancel").click()


@pytest.fixture
def dagster(stage, live_environment):
    """Run Dagster with its sensors, on a home of its own."""
    live_environment.setenv("LS_PIPELINE_POLL_SECONDS", "2")
    live_environment.setenv("DAGSTER_HOME", str(stage.folder / "dagster"))
    create_dagster_home()
    server = dagster_server(stage.folder / "logs", dict(os.environ))
    with running([server]):
        yield server


def wait_for_tasks(stage, name, expected):
    deadline = time.monotonic() + PATIENCE
    while (data := [task.document["data"] for task in stage.tasks(name)]) != expected:
        assert time.monotonic() < deadline, data
        time.sleep(1)


def test_prefix_changed_in_the_launchpad_loads_its_objects(stage, page, dagster):
    source = stage.s3("in")
    source.put("old/a.json", b'{"text": "shown before"}', "application/json")
    source.put("new/b.json", b'{"text": "hidden by the old prefix"}', "application/json")
    stage.add("reviews", samples.TEXT_CONFIG, source, None, {"prefix": "old"})
    wait_for_tasks(stage, "reviews", [{"text": "shown before"}])
    in_force = launch(page, dagster, "reviews", {"prefix": "new"})
    wait_for_tasks(
        stage, "reviews", [{"text": "shown before"}, {"text": "hidden by the old prefix"}]
    )
    page.goto(f"{dagster.url}/assets/source_settings?partition=reviews&view=partitions")
    page.get_by_text("source.params.prefix: 'old' → 'new'").wait_for()
    page.get_by_text("new/b.json").wait_for()

    assert (in_force["prefix"], in_force["path"]) == ("old", source.name)


def test_refused_settings_fail_the_run_and_change_nothing(stage, page, dagster):
    source = stage.s3("in")
    stage.add("reviews", samples.TEXT_CONFIG, source, None, {"prefix": "old"})
    CliContext().instance.add_dynamic_partitions("connections", ["reviews"])
    launch(page, dagster, "reviews", {"regex": "("})
    page.get_by_text("is not valid RE2").first.wait_for()

    assert CliContext().ledger.connection("reviews").source.params.regex == ""


def test_connection_is_added_in_the_ui(stage, page, dagster):
    source = stage.gcs("in")
    source.put("a.json", b'{"text": "a"}', "application/json")
    name = stage.name("added")
    form = {"type": "gcs", "path": source.name, "label_config": samples.TEXT_CONFIG}
    add_partition(page, dagster, name)
    launch(page, dagster, name, form)

    wait_for_tasks(stage, "added", [{"text": "a"}])


def rgb(colour):
    return tuple(bytes.fromhex(colour.removeprefix("#")))
