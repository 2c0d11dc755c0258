"""A real Label Studio behind what companies put in front of it, and pictures elsewhere."""

import json

import httpx
import pytest

from ls_pipeline.cli.demo import samples
from ls_pipeline.domain.objects import opens_in_browsers
from ls_pipeline.resources.label_studio.app import LabelStudio
from tests.contracts.conftest import Answer, serving
from tests.e2e.test_doctor import doctor, find_check, put

pytestmark = pytest.mark.server

LIMIT = 20_000
"""Bytes of a request that the front lets through."""


def forwarded(request, upstream):
    """Return Label Studio's answer to a request."""
    own = {"connection", "content-length", "host", "transfer-encoding", "accept-encoding"}
    headers = {name: value for name, value in request.headers.items() if name not in own}
    url = f"{upstream}{request.path}"
    answer = httpx.request(
        request.method, url, headers=headers, content=request.body, timeout=60, trust_env=False
    )
    kept = {"content-type", "date", "location"}
    headers = {name: value for name, value in answer.headers.items() if name in kept}
    return Answer(answer.content, answer.status_code, headers)


@pytest.fixture
def front(live_environment, label_studio_server):
    """Run a server in front of Label Studio that lets through only short requests with a header."""

    def answer(request):
        if request.headers.get("cf-access-client-secret") != "hunter2":
            return Answer(b"<html>Log in</html>", 302, {"location": "https://login.example.com/?a"})
        if len(request.body) > LIMIT:
            return Answer(b"<html>Request Entity Too Large</html>", 413)
        return forwarded(request, label_studio_server.client_environment["LABEL_STUDIO_URL"])

    with serving() as server:
        server.answer = answer
        live_environment.setenv("LABEL_STUDIO_URL", server.url)
        yield server


def test_tasks_are_loaded_through_an_identity_proxy_for_short_requests(
    stage, front, live_environment
):
    source = stage.s3("in")
    rows = [json.dumps({"text": f"{n} {'x' * 100}"}) for n in range(500)]
    put(source, [("rows.jsonl", "\n".join(rows).encode())])
    stage.add("reviews", samples.TEXT_CONFIG, source, None)
    before = doctor(stage, code=1)["general"]
    live_environment.setenv("LABEL_STUDIO_HEADERS", "CF-Access-Client-Secret: hunter2")
    report = stage.sync()["reviews"]

    (check,) = (check for check in before if check["check"] == "label studio")
    assert "redirects to https://login.example.com/." in check["says"]
    assert "LABEL_STUDIO_HEADERS" in check["do"]
    assert (report["tasks"], report["quarantined"]) == (500, 0)


def test_pictures_of_another_bucket_open_once_it_is_listed(stage):
    source, pictures = stage.s3("in"), stage.s3("pictures")
    put(pictures, [("1.png", b"picture")])
    put(source, [("a.json", json.dumps({"image": f"s3://{pictures.name}/1.png"}).encode())])
    stage.add("shapes", samples.PICTURE_CONFIG, source, None)
    stage.sync()
    before = find_check(doctor(stage, code=1), "shapes", "media: open")
    stage.add("shapes", samples.PICTURE_CONFIG, source, None, {"media_buckets": [pictures.name]})
    stage.sync()
    after = find_check(doctor(stage), "shapes", "media: open")

    assert before["do"] == f"Add s3://{pictures.name}/ to the source param media_buckets."
    assert after["state"] == "ok"


def test_blob_opens_unless_the_run_warns_about_its_key(stage):
    source = stage.s3("in")
    good, bad = ["a b.png", "a#b;c.png", "ä+%41.png", "a//b.png"], ["a?b.png"]
    put(source, [(key, b"picture") for key in [*good, *bad]])
    stage.add("shapes", samples.PICTURE_CONFIG, source, None, {"use_blob_urls": True})
    stage.sync()
    app, tasks = LabelStudio(), stage.tasks("shapes")
    uris = {task.document["data"]["image"]: task.task_id for task in tasks}
    opened = {uri for uri, id_ in uris.items() if app.fetch_as_browser(id_, uri).status < 400}

    assert opened == {source.uri(key) for key in good}
    assert [key for key in [*good, *bad] if not opens_in_browsers(key)] == bad
