"""Sample data and its labels."""

import csv
import io
import json
from itertools import pairwise

import pytest
from PIL import Image, ImageColor

from ls_pipeline.cli.demo import samples
from ls_pipeline.domain.label_config import LabelConfig

COUNT = 24


def data_of(body):
    """Return the data of a text task, bare or in Label Studio's format."""
    task = json.loads(body)
    return task.get("data", task)


def sentiment(text):
    return samples.label({"text": text})[0]["value"]["choices"]


def errors(config, result):
    from label_studio_sdk.label_interface import LabelInterface

    return LabelInterface(config).validate_prediction({"result": result}, return_errors=True)


@pytest.mark.parametrize("make", [samples.texts, samples.pictures])
def test_samples_are_the_same_every_time(make):
    assert make(COUNT) == make(COUNT)


@pytest.mark.parametrize("make", [samples.texts, samples.pictures])
def test_fewer_samples_are_the_first_of_more(make):
    assert make(5) == make(COUNT)[:5]


@pytest.mark.parametrize("make", [samples.texts, samples.pictures])
def test_samples_have_a_key_each(make):
    assert len({key for key, _ in make(COUNT)}) == COUNT


def test_texts_are_bare_or_in_label_studios_format():
    forms = ["data" in json.loads(body) for _, body in samples.texts(COUNT)]

    assert forms.count(True) == forms.count(False) == COUNT // 2


def test_texts_have_the_data_that_their_config_shows():
    (key,) = LabelConfig(samples.TEXT_CONFIG).keys

    assert all(list(data_of(body)) == [key] for _, body in samples.texts(COUNT))


def test_pictures_have_the_data_key_that_the_annotator_reads():
    assert LabelConfig(samples.PICTURE_CONFIG).keys == ("image",)


def rows(count):
    _, body = samples.table(count)
    return list(csv.DictReader(io.StringIO(body.decode())))


def test_table_has_a_row_with_the_shown_data_for_each_task():
    (key,) = LabelConfig(samples.TEXT_CONFIG).keys

    assert [sorted(row) for row in rows(COUNT)] == [["order", key]] * COUNT


def test_numbers_in_the_table_begin_with_zeros():
    assert [row["order"] for row in rows(2)] == ["0000", "0001"]


def test_table_labels_fit_their_config():
    results = [samples.label(row) for row in rows(COUNT)]

    assert [errors(samples.TEXT_CONFIG, result) for result in results] == [[]] * COUNT


def test_texts_hold_every_opinion():
    sentiments = {sentiment(data_of(body)["text"])[0] for _, body in samples.texts(COUNT)}

    assert sentiments == {"Positive", "Negative", "Neutral"}


def test_sentiment_follows_the_words():
    assert sentiment("The tent broke after a week.") == ["Negative"]


def test_text_labels_fit_their_config():
    results = [samples.label(data_of(body)) for _, body in samples.texts(COUNT)]

    assert [errors(samples.TEXT_CONFIG, result) for result in results] == [[]] * COUNT


def test_picture_labels_fit_their_config():
    results = [samples.label({"image": f"gs://b/{key}"}) for key, _ in samples.pictures(COUNT)]

    assert [errors(samples.PICTURE_CONFIG, result) for result in results] == [[]] * COUNT


def test_picture_of_any_bucket_gets_the_boxes_of_its_number():
    assert samples.label({"image": "s3://a/picture 007.png"}) == samples.label(
        {"image": "gs://b/c/picture 007.png"}
    )


def test_pictures_are_pngs_of_the_size_that_labels_name():
    _, body = samples.pictures(1)[0]
    picture = Image.open(io.BytesIO(body))
    (box, *_) = samples.label({"image": "picture 000.png"})

    assert (picture.format, picture.size) == (
        "PNG",
        (box["original_width"], box["original_height"]),
    )


def test_shapes_are_inside_their_picture():
    assert all(
        0 <= shape.x <= samples.WIDTH - shape.size and 0 <= shape.y <= samples.HEIGHT - shape.size
        for number in range(200)
        for shape in samples.shapes(number)
    )


def test_shapes_never_overlap():
    rows = [samples.shapes(number) for number in range(200)]

    assert all(left.x + left.size < right.x for row in rows for left, right in pairwise(row))


def test_boxes_hold_the_shapes_and_nothing_but_background_is_outside():
    key, body = samples.pictures(8)[7]
    picture = Image.open(io.BytesIO(body)).convert("RGB")
    background = picture.getpixel((0, 0))
    for box in samples.label({"image": key}):
        value = box["value"]
        left, top = value["x"] * samples.WIDTH / 100, value["y"] * samples.HEIGHT / 100
        right = left + value["width"] * samples.WIDTH / 100
        bottom = top + value["height"] * samples.HEIGHT / 100
        picture.paste(background, (round(left), round(top), round(right) + 1, round(bottom) + 1))

    assert picture.getcolors() == [(samples.WIDTH * samples.HEIGHT, background)]


def test_shapes_have_the_color_of_their_label():
    key, body = samples.pictures(8)[7]
    picture = Image.open(io.BytesIO(body)).convert("RGB")
    drawn = {
        shape.kind: picture.getpixel((shape.x + shape.size // 2, shape.y + shape.size // 2))
        for shape in samples.shapes(7)
    }
    from label_studio_sdk.label_interface import LabelInterface

    labels = LabelInterface(samples.PICTURE_CONFIG).get_control("shape").labels_attrs

    assert key.endswith("007.png")
    assert drawn == {kind: ImageColor.getrgb(labels[kind].attr["background"]) for kind in drawn}
