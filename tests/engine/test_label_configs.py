"""Label configs of all kinds, as a run over a source meets them."""

from tests.domain.test_label_config import BOX, PAGES


def show(bench, label_config):
    """Let the connection's project have a label config."""
    bench.app.projects[1] = ("Reviews", label_config)


def test_pages_of_a_repeater_load_with_their_predictions(bench):
    show(bench, PAGES)
    data = {"pages": [{"url": "s3://bucket/1.png"}]}
    bench.put("a.json", {"data": data, "predictions": [{"result": [BOX]}]})
    bench.put("b.json", {"data": {"pages": "s3://bucket/1.png"}})
    bench.load()

    assert (bench.tasks, set(bench.reasons)) == ({("a.json", 0): data}, {("b.json", 0)})


def test_blob_fills_the_list_that_the_label_config_shows(bench):
    show(bench, '<View><Image name="i" valueList="$images"/></View>')
    bench.set(use_blob_urls=True)
    bench.put("a.png", b"\x89PNG")
    bench.load()

    assert bench.tasks == {("a.png", 0): {"images": ["s3://bucket/a.png"]}}


def test_label_config_without_data_keys_takes_any_task(bench):
    show(bench, '<View><Text name="t" value="Is it a fox?"/></View>')
    bench.put("a.json", {"image": 7})
    result = bench.load()

    assert (result.tasks_created, result.notes) == (1, [])
