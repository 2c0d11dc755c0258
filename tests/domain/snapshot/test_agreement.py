import pytest

from ls_pipeline.domain.snapshot.agreement import find_disagreements, mean_agreement
from ls_pipeline.domain.snapshot.tables import result_row


def row(kind, value, **fields):
    return result_row(0, {"type": kind, "from_name": "c", "to_name": "t", "value": value, **fields})


def box(x, label="car", **more):
    value = {"x": x, "y": 0, "width": 10, "height": 10, "rectanglelabels": [label], **more}
    return row("rectanglelabels", value)


def span(start, end, label="PER"):
    return row("labels", {"start": start, "end": end, "labels": [label]})


def point(x, y):
    return row("keypointlabels", {"x": x, "y": y, "width": 0.5, "keypointlabels": ["k"]})


def paragraph(number, start, end, last=None):
    last = number if last is None else last
    place = {"start": f"{number}", "end": f"{last}", "startOffset": start, "endOffset": end}
    return row("paragraphlabels", {**place, "paragraphlabels": ["p"]})


def frames(*ranges):
    return row("timelinelabels", {"ranges": list(ranges), "timelinelabels": ["t"]})


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (box(0), box(0), True),
        (box(0), box(3), True),
        (box(0), box(4), False),
        (box(0), box(0, "bus"), False),
        (span(0, 10), span(2, 10), True),
        (span(0, 10), span(10, 20), False),
        (span(0, 0), span(0, 0), True),
        (row("choices", {"choices": ["a", "b"]}), row("choices", {"choices": ["b", "a"]}), True),
        (row("choices", {"choices": ["a"]}), row("choices", {"choices": ["a", "b"]}), False),
        (row("rating", {"rating": 3}), row("rating", {"rating": 3}), True),
        (row("rating", {"rating": 3}), row("rating", {"rating": 4}), False),
        (row("textarea", {"text": ["a"]}), row("textarea", {"text": ["b"]}), False),
        (
            row("textarea", {"x": 0, "y": 0, "width": 9, "height": 9, "text": ["a"]}),
            row("textarea", {"x": 0, "y": 0, "width": 9, "height": 9, "text": ["b"]}),
            False,
        ),
        (
            row("polygonlabels", {"points": [[0, 0], [9, 9]], "polygonlabels": ["p"]}),
            row("polygonlabels", {"points": [[0, 0], [8, 9]], "polygonlabels": ["p"]}),
            True,
        ),
        (
            row("brushlabels", {"rle": [1], "brushlabels": ["b"]}),
            row("brushlabels", {"rle": [2], "brushlabels": ["b"]}),
            True,
        ),
        (
            row(
                "ellipselabels",
                {"x": 9, "y": 9, "radiusX": 3, "radiusY": 3, "ellipselabels": ["e"]},
            ),
            row(
                "ellipselabels",
                {"x": 20, "y": 9, "radiusX": 3, "radiusY": 3, "ellipselabels": ["e"]},
            ),
            False,
        ),
        (row("rating", {"rating": 3}), row("number", {"rating": 3}), False),
        (point(10, 10), point(11, 10), True),
        (point(1, 1), point(99, 99), False),
        (paragraph(1, 0, 10), paragraph(1, 1, 10), True),
        (paragraph(1, 0, 5), paragraph(1, 200, 240), False),
        (paragraph(1, 0, 5), paragraph(2, 0, 5), False),
        (paragraph(0, 50, 10, last=2), paragraph(0, 48, 10, last=2), True),
        (frames({"start": 1, "end": 9}), frames({"start": 2, "end": 9}), True),
        (frames({"start": 1, "end": 2}), frames({"start": 900, "end": 950}), False),
        (frames("?"), frames("?"), True),
    ],
)
def test_results_agree_with_the_same_content_at_the_same_place(one, other, agree):
    disagreements = find_disagreements([[one], [other]])

    assert (disagreements == [[[]], [[]]]) is agree
    assert mean_agreement(disagreements) == float(agree)


def test_result_that_others_lack_lowers_agreement():
    disagreements = find_disagreements([[box(0), box(50)], [box(0)]])

    assert disagreements == [[[], [1]], [[]]]
    assert mean_agreement(disagreements) == pytest.approx(2 / 3)


def test_two_empty_annotations_agree():
    assert mean_agreement(find_disagreements([[], []])) == 1.0


@pytest.mark.parametrize("annotations", [[], [[box(0)]]])
def test_one_annotation_has_no_agreement(annotations):
    assert mean_agreement(find_disagreements(annotations)) is None
