"""Results may have any form: no format stops, and each result is written or counted."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ls_pipeline.resources.converter import convert, supported_formats
from tests.strategies import ANY_JSON, NUMBERS, TEXTS, like

CONFIG = """<View><Image name="i" value="$image"/><Text name="t" value="$text"/>
<Audio name="a" value="$sound"/>
<RectangleLabels name="rectanglelabels" toName="i"><Label value="x"/></RectangleLabels>
<PolygonLabels name="polygonlabels" toName="i"><Label value="x"/></PolygonLabels>
<EllipseLabels name="ellipselabels" toName="i"><Label value="y"/></EllipseLabels>
<BrushLabels name="brushlabels" toName="i"><Label value="z"/></BrushLabels>
<KeyPointLabels name="keypointlabels" toName="i"><Label value="k"/></KeyPointLabels>
<Labels name="labels" toName="t"><Label value="x"/></Labels>
<TextArea name="textarea" toName="a"/>
<Choices name="choices" toName="t"><Choice value="c"/></Choices>
</View>"""
TYPES = [
    "rectanglelabels",
    "polygonlabels",
    "ellipselabels",
    "brushlabels",
    "keypointlabels",
    "labels",
    "textarea",
    "choices",
    "relation",
]
LABELS = st.lists(st.sampled_from(["x", "y", "z", "k", ""]) | TEXTS, max_size=2)
SMALL = st.integers(-5, 120) | NUMBERS
VALUE = like(
    x=SMALL,
    y=SMALL,
    width=SMALL,
    height=SMALL,
    radiusX=SMALL,
    radiusY=SMALL,
    rotation=SMALL,
    points=st.lists(st.lists(SMALL, min_size=2, max_size=2), max_size=4),
    rle=st.lists(st.integers(0, 255), max_size=20),
    start=SMALL,
    end=SMALL,
    text=TEXTS,
    **dict.fromkeys(TYPES, LABELS),
)
RESULT = st.sampled_from(TYPES).flatmap(
    lambda type_: like(
        id=st.sampled_from(["r", "s", "q"]),
        parentID=st.sampled_from(["r", "s"]),
        type=type_,
        from_name=type_,
        to_name=st.sampled_from("ita"),
        original_width=st.integers(1, 9) | NUMBERS,
        original_height=st.integers(1, 9) | NUMBERS,
        item_index=st.integers(0, 1),
        value=VALUE,
        from_id="r",
        to_id="s",
    )
)
DATA = like(image="s3://b/x.png", text="Some words", sound="s3://b/x.wav")
ANNOTATION = st.fixed_dictionaries(
    {"id": st.integers(1, 9), "result": st.lists(RESULT, max_size=4) | ANY_JSON},
    optional={"completed_by": ANY_JSON, "ground_truth": st.booleans(), "updated_at": ANY_JSON},
)


@pytest.mark.parametrize("name", supported_formats(CONFIG))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=DATA,
    annotations=st.lists(ANNOTATION, min_size=1, max_size=2),
    how=st.sampled_from(["all", "latest", "majority"]),
)
def test_results_of_any_form_stop_no_format(name, data, annotations, how):
    document = {"id": 1, "data": data, "annotations": annotations}
    with tempfile.TemporaryDirectory() as folder:
        report = convert([document], CONFIG, name, Path(folder), annotations=how)
        lost = json.loads(Path(folder, "lost.json").read_text())

    assert 0 <= report.lost + report.simplified <= report.results
    assert len({item["number"] for item in lost["items"]}) <= report.results
