"""Answers of Label Studio: each becomes typed values, or an error of ours."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ls_pipeline.domain.errors import (
    AnswerTooLargeError,
    LabelStudioError,
    LabelStudioUnavailableError,
    PipelineError,
    TasksRefusedError,
)
from ls_pipeline.resources.label_studio import client, marks
from ls_pipeline.resources.label_studio.app import COMPLETIONS_PAGE, LabelStudio
from ls_pipeline.resources.label_studio.client import MOST_BYTES, BoundedClient
from ls_pipeline.resources.label_studio.data_manager import SMALLER_PAGE
from ls_pipeline.resources.labeling_app import Mark, StorageLocation
from tests.strategies import ANY_JSON, NUMBERS, TEXTS, like

NOW = "2026-01-02T03:04:05.000000Z"
MARK = Mark(1, 1, "ledger", "reviews", 3)

project = like(
    id=st.integers(1, 3),
    title="Reviews",
    label_config="<View/>",
    task_number=NUMBERS,
    created_at=NOW,
    total_annotations_number=NUMBERS,
    skipped_annotations_number=NUMBERS,
    results=st.lists(like(id=1, title="Reviews", label_config="", task_number=1, created_at=NOW)),
    next=TEXTS,
)
tasks = like(
    tasks=st.lists(
        like(
            id=st.integers(1, 3),
            meta=ANY_JSON,
            updated_at=NOW,
            total_annotations=NUMBERS,
            cancelled_annotations=NUMBERS,
            annotations=ANY_JSON,
        ),
        max_size=2,
    ),
    total=NUMBERS,
)
imported = like(task_ids=st.lists(NUMBERS, max_size=2), annotation_count=NUMBERS)
headers = like(
    **{marks.LEDGER: "ledger", marks.CONNECTION: "reviews", marks.GENERATION: st.just("3") | TEXTS}
)
webhook = like(
    id=1, url=st.sampled_from(["http://a/b", "http://[", marks.URL]), project=1, headers=headers
)
storage = like(id=1, bucket="b", title=st.sampled_from(["ls_pipeline s3://b (opens…)", "mine"]))

CALLS = {
    "project": (lambda app: app.project(1), project),
    "existing_projects": (lambda app: app.existing_projects([1]), project),
    "find_project": (lambda app: app.find_project("Reviews"), project),
    "find_or_create": (lambda app: app.create_project("Reviews", ""), project),
    "like": (lambda app: app.create_project_like(1, "Reviews"), project),
    "count_annotations": (lambda app: app.count_annotations([1]), project),
    "highest": (lambda app: app.highest_task_id(1), tasks),
    "above": (lambda app: app.count_tasks_above(1, 1), tasks),
    "import": (lambda app: app.import_tasks(1, [{"predictions": [{}]}]), imported),
    "origins": (lambda app: app.task_origins_above(1, 0), tasks),
    "states": (lambda app: app.task_states(1), tasks),
    "uncounted": (lambda app: app.uncounted_tasks(1), tasks),
    "changes": (lambda app: app.recent_changes(1, NOW), tasks),
    "completions": (lambda app: app.completions(1, [1]), tasks),
    "annotated": (lambda app: app.count_annotated(1), tasks),
    "version": (lambda app: app.server_info(), like(release=TEXTS, email=TEXTS)),
    "webhook": (lambda app: app.register_webhook(1, "http://a/b", "s"), st.lists(webhook)),
    "marks": (lambda app: app.marks(), st.lists(webhook)),
    "add_mark": (lambda app: app.add_mark(1, "ledger", "reviews", 3), webhook),
    "raise_mark": (lambda app: app.raise_mark(MARK, 4), webhook),
    "remove_mark": (lambda app: app.remove_mark(MARK), webhook),
    "storage": (
        lambda app: app.register_storage(1, StorageLocation("s3", "b")),
        st.lists(storage, max_size=2),
    ),
}
bodies = {name: answer for name, (_, answer) in CALLS.items()}


class Answering:
    """Answers each request with the next body of a list, and the last one for ever."""

    def __init__(self, *bodies, status=200, **headers):
        self.bodies, self.status, self.headers = list(bodies), status, headers

    def request(self, path, method, **_):
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        request = httpx.Request(method, f"http://labels/{path}")
        return httpx.Response(self.status, content=body, headers=self.headers, request=request)


def app_with(http):
    app = LabelStudio(url="http://labels", api_key="key")
    app.api.http = http
    return app


def outcome(call, http):
    """Return what a call returns, or its error of ours."""
    try:
        result = call(app_with(http))
        return list(itertools.islice(result, 50)) if isinstance(result, Iterator) else result
    except PipelineError as error:
        return error


@pytest.mark.parametrize("name", CALLS)
@given(st.data())
@settings(max_examples=15)
def test_any_answer_is_typed_or_an_error_of_ours(name, data):
    call, answer = CALLS[name]
    documents = data.draw(st.lists(answer | ANY_JSON, min_size=1, max_size=3))
    status = data.draw(st.sampled_from([200, 200, 400, 500]))

    outcome(call, Answering(*(json.dumps(each).encode() for each in documents), status=status))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "body", [b"<html>no</html>", b"\xff\xfe", b"[" * 100_000, b"", b"NaN"], ids=range(5)
)
def test_answer_that_is_no_json_is_an_error_of_ours(name, body):
    outcome(CALLS[name][0], Answering(body))


@pytest.mark.parametrize(
    "date", ["", "x", "Sun, 01 Jan 1950 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -0900"]
)
def test_time_that_is_none_is_an_error(date):
    assert isinstance(outcome(LabelStudio.now, Answering(b"{}", date=date)), LabelStudioError)


def test_odd_webhooks_of_others_hide_no_mark():
    strangers = [5, {}, {"id": 2**70, "url": marks.URL}, {"id": 3, "url": "u", "headers": None}]
    ours = {"id": 4, "url": marks.URL, "project": 1, "headers": marks._headers(MARK)}
    listed = json.dumps([*strangers, ours]).encode()

    assert outcome(LabelStudio.marks, Answering(listed)) == [Mark(4, 1, "ledger", "reviews", 3)]


def test_answer_of_a_write_in_another_form_leaves_its_outcome_unknown():
    for body in (b'{"task_ids": ["x"]}', b'{"task_ids": []}'):
        error = outcome(lambda app: app.import_tasks(1, [{}]), Answering(body))

        assert isinstance(error, LabelStudioUnavailableError)


def test_refused_update_is_of_its_task_alone():
    body = json.dumps({"status_code": 400, "detail": "it does not fit"}).encode()
    error = outcome(lambda app: app.update_task(1, {}), Answering(body, status=400))

    assert isinstance(error, TasksRefusedError)
    assert "it does not fit" in str(error)


def test_counts_of_an_odd_project_hide_no_other():
    good = {"id": 1, "total_annotations_number": 2, "skipped_annotations_number": None}
    page = json.dumps({"results": [{"id": 2}, good, 5]}).encode()

    assert outcome(lambda app: app.count_annotations([1, 2]), Answering(page)) == {1: 2}


@pytest.mark.parametrize("name", ["states", "find_project"])
def test_pages_that_repeat_for_ever_are_an_error(name):
    row = {"id": 1, "updated_at": NOW, "total_annotations": 0, "cancelled_annotations": 0}
    row |= {"title": "Reviews 2", "label_config": "", "task_number": 0, "created_at": NOW}
    page = {"tasks": [row] * 1000, "total": 1, "results": [row], "next": "more"}
    error = outcome(CALLS[name][0], Answering(json.dumps(page).encode()))

    assert name == "states" or "lists the same page again and again" in str(error)


class Asked(Answering):
    """Answers, and keeps the params of each request."""

    def __init__(self, *bodies):
        super().__init__(*bodies)
        self.params = []

    def request(self, path, method, params, **_):
        self.params.append(params)
        return super().request(path, method)

    @property
    def ids(self):
        """The operators and values of the conditions on the ids."""
        queries = [json.loads(params["query"])["filters"]["items"][0] for params in self.params]
        return [(query["operator"], query["value"]) for query in queries]


@pytest.mark.parametrize(
    ("ids", "asked"),
    [
        (range(7, 10), [("in_list", [7, 8, 9])]),
        (
            range(COMPLETIONS_PAGE + 50),
            [
                ("in", {"min": 0, "max": COMPLETIONS_PAGE - 1}),
                ("in", {"min": COMPLETIONS_PAGE, "max": COMPLETIONS_PAGE + 49}),
            ],
        ),
        (range(0, 202, 2), [("in_list", [*range(0, 200, 2)]), ("in_list", [200])]),
        ([], []),
    ],
)
def test_many_consecutive_ids_are_asked_for_as_a_range(ids, asked):
    http = Asked(b'{"tasks": [], "total": 0}')
    outcome(lambda app: app.completions(1, ids), http)

    assert http.ids == asked


@pytest.mark.parametrize(("total", "requests"), [(COMPLETIONS_PAGE, 1), (COMPLETIONS_PAGE + 1, 2)])
def test_full_page_is_the_last_if_its_total_says_so(total, requests):
    rows = [{"id": n, "updated_at": NOW} for n in range(1, COMPLETIONS_PAGE + 1)]
    pages = [{"tasks": rows, "total": total}, {"tasks": [], "total": 0}]
    http = Asked(*(json.dumps(page).encode() for page in pages))
    completions = app_with(http).completions(1, range(1, COMPLETIONS_PAGE + 1))

    assert (len(list(completions)), len(http.params)) == (COMPLETIONS_PAGE, requests)


def test_annotations_are_expanded_with_all_their_fields():
    http = Asked(b'{"tasks": [], "total": 0}')
    outcome(lambda app: app.completions(1, [1]), http)
    [params] = http.params

    assert params["expand"] == "annotations"
    assert {"annotations", "result", "annotations.result"} <= set(params["include"].split(","))


def bounded(answer):
    return BoundedClient(transport=httpx.MockTransport(answer))


def test_answer_that_is_too_large_is_an_error(monkeypatch):
    monkeypatch.setattr(client, "LARGEST_ANSWER", 1000)
    http = bounded(lambda _: httpx.Response(200, content=b"x" * 1001))

    with pytest.raises(AnswerTooLargeError, match="http://labels/api has too many bytes"):
        http.get("http://labels/api?key=secret")


def test_answer_has_a_smaller_bound_that_is_not_sent():
    sent = []

    def answer(request):
        sent.append(MOST_BYTES in request.headers)
        return httpx.Response(200, content=b"x" * 1001)

    assert len(bounded(answer).get("http://labels/", headers={MOST_BYTES: "1001"}).content) == 1001
    with pytest.raises(AnswerTooLargeError):
        bounded(answer).get("http://labels/", headers={MOST_BYTES: "1000"})
    assert sent == [False, False]


def test_answer_without_an_end_is_an_error(monkeypatch):
    monkeypatch.setattr(client, "ANSWER_SECONDS", -1.0)
    http = bounded(lambda _: httpx.Response(200, content=iter([b"x", b"y"])))

    with pytest.raises(httpx.ReadTimeout, match="does not end"):
        http.get("http://labels/")


def test_body_of_a_redirect_is_not_read():
    def endless():
        yield b"x"
        raise AssertionError("it is read")

    def answer(request):
        if request.url.path == "/a":
            return httpx.Response(302, headers={"location": "/b"}, content=endless())
        return httpx.Response(200, content=b"there")

    assert bounded(answer).get("http://labels/a", follow_redirects=True).text == "there"


def test_page_that_is_too_large_comes_in_smaller_ones():
    asked = []

    class Large(Answering):
        def request(self, path, method, params, headers, **_):
            asked.append(int(params["page_size"]))
            if MOST_BYTES in headers and asked[-1] > SMALLER_PAGE:
                raise AnswerTooLargeError("http://labels/api/tasks/")
            return super().request(path, method)

    page = {"tasks": [{"id": 1, "updated_at": NOW}], "total": 1}
    [completion] = outcome(CALLS["completions"][0], Large(json.dumps(page).encode()))

    assert completion.task_id == 1
    assert asked == [COMPLETIONS_PAGE // SMALLER_PAGE**times for times in range(3)]
