"""What an annotator and an operator see, in a real browser."""

import io
import shutil

import pytest
from PIL import Image

from ls_pipeline.cli import samples

pytestmark = [pytest.mark.server, pytest.mark.browser]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def page():
    if not CHROMIUM:
        pytest.skip("there is no chromium on this machine; scripts/chromium installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser.new_page()
        browser.close()


def log_in(page, server):
    page.goto(f"{server.url}/user/login/")
    page.fill("input[name=email]", server.environment["LABEL_STUDIO_USERNAME"])
    page.fill("input[name=password]", server.environment["LABEL_STUDIO_PASSWORD"])
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "login" not in url)


def colours(page):
    """Count the colours of the picture's pixels, as the labeling page shows it."""
    wanted = f"() => [...document.images].some(one => one.naturalWidth === {samples.WIDTH})"
    page.wait_for_function(wanted, timeout=60_000)
    page.wait_for_timeout(1000)  # it fades in
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return {colour: count for count, colour in picture.getcolors(picture.width * picture.height)}


@pytest.mark.parametrize("cloud", ["s3", "gcs"])
def test_annotator_sees_the_pictures_pixels(stage, page, label_studio_server, cloud):
    source = getattr(stage, cloud)("in")
    key, body = samples.pictures(1)[0]
    source.put(key, body, "image/png")
    stage.add("shapes", samples.PICTURE_CONFIG, source, None, {"use_blob_urls": True})
    stage.sync()
    (task,) = stage.tasks("shapes")
    log_in(page, label_studio_server)
    project = task.document["project"]
    page.goto(f"{label_studio_server.url}/projects/{project}/data?task={task.task_id}")
    seen = colours(page)
    expected = {samples.BACKGROUND, *(samples.COLOURS[one.kind] for one in samples.shapes(0))}

    assert all(seen.get(rgb(colour), 0) > 1000 for colour in expected)


def rgb(colour):
    return tuple(bytes.fromhex(colour.removeprefix("#")))
