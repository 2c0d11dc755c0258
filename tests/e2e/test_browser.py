"""What an annotator and an operator see, in a real browser."""

import shutil

import pytest

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


COLOURS = """
async () => {
    const image = [...document.querySelectorAll("img")].find(one => one.naturalWidth === WIDTH);
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const pen = canvas.getContext("2d");
    const fresh = new Image();
    fresh.crossOrigin = "anonymous";
    fresh.src = image.src;
    await fresh.decode();
    pen.drawImage(fresh, 0, 0);
    return PLACES.map(([x, y]) => [...pen.getImageData(x, y, 1, 1).data].slice(0, 3));
}
"""


def pixels(page, places):
    """Read pixels of the picture as the labeling page shows it."""
    wanted = f"() => [...document.images].some(one => one.naturalWidth === {samples.WIDTH})"
    page.wait_for_function(wanted, timeout=60_000)
    script = COLOURS.replace("WIDTH", str(samples.WIDTH)).replace("PLACES", str(places))
    return [tuple(colour) for colour in page.evaluate(script)]


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
    shape = samples.shapes(0)[0]
    middle = [shape.x + shape.size // 2, shape.y + shape.size * 2 // 3]
    corner, inside = pixels(page, [[2, 2], middle])

    assert corner == rgb(samples.BACKGROUND)
    assert inside == rgb(samples.COLOURS[shape.kind])


def rgb(colour):
    return tuple(bytes.fromhex(colour.removeprefix("#")))
