import json

import pytest

from ls_pipeline.domain.snapshot.media import MediaKeys

IMAGE = '<View><Image name="i" value="$image"/></View>'
REPEATED = """<View><Repeater on="$pages">
<Image name="i{{idx}}" value="$pages[{{idx}}].url"/></Repeater></View>"""


def objects(config, data, uri=None, version=None):
    task = {"task_id": 1, "object_uri": uri, "object_version": version, "data": json.dumps(data)}
    return [(item.data_key, *item.place, item.version) for item in MediaKeys(config).objects(task)]


@pytest.mark.parametrize(
    ("config", "data", "found"),
    [
        (IMAGE, {"image": "s3://b/a/1 ?.jpg"}, [("image", "s3://b", "a/1 ?.jpg", "")]),
        (IMAGE, {"image": "gs://b/1", "more": "s3://b/2"}, [("image", "gs://b", "1", "")]),
        (IMAGE, {"image": "https://example.com/1.jpg"}, [("image", "", "", "")]),
        (IMAGE, {"image": "/data/upload/1.jpg"}, [("image", "", "", "")]),
        (IMAGE, {"image": ""}, []),
        (IMAGE, {"other": "s3://b/2"}, []),
        (IMAGE, {"image": 7}, []),
        (IMAGE, None, []),
        ("<", {"x": ["s3://b/2"]}, [("x", "s3://b", "2", "")]),
        ("<View/>", {"x": {"y": "s3://b/2"}, "z": "text"}, [("x", "s3://b", "2", "")]),
        (
            '<View><Text name="t" value="$t"/><Audio name="a" value="$x.a"/></View>',
            {"t": "a text", "x": {"a": "gs://b/a.wav"}},
            [("x.a", "gs://b", "a.wav", "")],
        ),
        (
            '<View><Image name="i" valueList="$pages"/></View>',
            {"pages": ["s3://b/1", "s3://b/2"]},
            [("pages", "s3://b", "1", ""), ("pages", "s3://b", "2", "")],
        ),
        (
            REPEATED,
            {"pages": [{"url": "s3://b/1"}]},
            [("pages", "s3://b", "1", "")],
        ),
    ],
)
def test_media_are_what_the_label_config_shows(config, data, found):
    assert objects(config, data) == found


def test_version_of_a_blob_is_that_of_its_task():
    blob = objects(IMAGE, {"image": "s3://b/1.jpg"}, "s3://b/1.jpg", "v1")
    named = objects(IMAGE, {"image": "s3://b/1.jpg"}, "s3://b/tasks.json", "v1")

    assert (blob[0][-1], named[0][-1]) == ("v1", "")
