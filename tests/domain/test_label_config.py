import pytest

from ls_pipeline.domain.errors import NotATaskError
from ls_pipeline.domain.label_config import DataKey, LabelConfig

TOPICS = """<View><Text name="t" value="$text"/>
<Choices name="c" toName="t"><Choice value="A"/><Choice value="Bee" alias="B"/></Choices></View>"""
TOPIC = {"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": ["A"]}}

PAGES = """<View><Repeater on="$pages" indexFlag="{{idx}}">
<Image name="page_{{idx}}" value="$pages[{{idx}}].url"/>
<RectangleLabels name="box_{{idx}}" toName="page_{{idx}}"><Label value="Title"/></RectangleLabels>
</Repeater></View>"""
SIDES = {"x": 1, "y": 2, "width": 3, "height": 4}
BOX = {
    "from_name": "box_10",
    "to_name": "page_10",
    "type": "rectanglelabels",
    "value": {**SIDES, "rectanglelabels": ["Title"]},
}


def view(tags):
    return LabelConfig(f"<View>{tags}</View>")


def fits(label_config, *results, **fields):
    return not label_config.prediction_error({"result": list(results), **fields})


def test_keys_are_the_variables_shown_in_document_order():
    config = """<View><Text name="b" value="$text"/><View><Image name="a" value="$image"/></View>
    <HyperText name="h" value="&lt;b&gt;$html&lt;/b&gt;"/>
    <Choices name="c" toName="b"><Choice value="$no"/></Choices><Text name="t" value="$text"/>
    </View>"""

    assert LabelConfig(config).keys == ("text", "image", "html")


def test_label_config_that_is_not_xml_is_refused():
    with pytest.raises(NotATaskError, match="not XML"):
        LabelConfig("<View>")


def test_empty_label_config_asks_nothing():
    assert (LabelConfig().is_empty, LabelConfig().data_error({})) == (True, "")


def test_wrong_type_is_named():
    assert view('<Image name="i" value="$image"/>').data_error({"image": 7}) == (
        "<Image> of the label config shows 'image', which is a string or a list; the task has a "
        "number."
    )


def test_repeater_needs_the_list_of_its_pages():
    config = LabelConfig(PAGES)

    assert config.data_error({"pages": [{"url": "a"}]}) == ""
    assert "shows 'pages', which is a list; the task has a string" in config.data_error(
        {"pages": "a"}
    )


def test_value_list_needs_its_list():
    config = view('<Image name="i" valueList="$images"/>')

    assert config.data_error({"images": ["a"]}) == ""
    assert "shows 'images', which the task lacks" in config.data_error({"image": "a"})


@pytest.mark.parametrize(
    ("key", "data"),
    [
        (DataKey("image", "Image"), {"image": "u"}),
        (DataKey("letter.scan", "Image"), {"letter": {"scan": "u"}}),
        (DataKey("pages[{{idx}}].url", "Image"), {"pages": [{"url": "u"}]}),
        (DataKey("images[0]", "Image"), {"images": ["u"]}),
        (DataKey("images", "Image", is_value_list=True), {"images": ["u"]}),
    ],
)
def test_value_is_put_where_the_label_config_shows_it(key, data):
    assert key.data_with("u") == data


# -- predictions ------------------------------------------------------------------------------


def test_prediction_that_fits_has_no_error():
    config = LabelConfig(TOPICS)

    assert fits(config)
    assert fits(config, TOPIC, {**TOPIC, "value": {"choices": ["B"]}}, score=0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": {"choices": ["C"]}},
        {"value": {"choices": "A"}},
        {"value": "A"},
        {"from_name": "other"},
        {"to_name": "other"},
        {"type": "labels"},
        {"type": "relation"},
    ],
)
def test_prediction_that_does_not_fit_has_an_error(wrong):
    assert not fits(LabelConfig(TOPICS), TOPIC, {**TOPIC, **wrong})


@pytest.mark.parametrize("lacking", TOPIC)
def test_result_without_a_field_has_an_error(lacking):
    rest = {name: value for name, value in TOPIC.items() if name != lacking}

    assert LabelConfig(TOPICS).prediction_error({"result": [TOPIC, rest]}) == (
        f"result 1: it has no {lacking!r}."
    )


@pytest.mark.parametrize("score", ["high", [], float("nan")])
def test_score_that_is_no_number_has_an_error(score):
    assert not fits(LabelConfig(TOPICS), score=score)


def test_prediction_without_a_result_has_an_error():
    assert LabelConfig(TOPICS).prediction_error({"model_version": "1"})


def test_names_in_a_repeater_have_the_index_of_their_page():
    config = LabelConfig(PAGES)

    assert fits(config, BOX, {**BOX, "from_name": "box_0", "to_name": "page_0"})
    assert not fits(config, {**BOX, "to_name": "page_1"})
    assert not fits(config, {**BOX, "from_name": "box_x"})


def test_region_without_its_sides_does_not_fit():
    value = {"x": 1, "y": 2, "rectanglelabels": ["Title"]}

    assert not fits(LabelConfig(PAGES), {**BOX, "value": value})


@pytest.mark.parametrize(
    "choices",
    [
        '<Choices name="c" toName="t" value="$options"/>',
        '<Choices name="c" toName="t"><Choice value="$option"/></Choices>',
        '<Choices name="c" toName="t" apiUrl="https://example.com/choices"/>',
    ],
)
def test_choices_of_the_task_are_not_compared(choices):
    assert fits(view(f'<Text name="t" value="$text"/>{choices}'), TOPIC)


@pytest.mark.parametrize(
    ("tags", "result"),
    [
        (
            '<Chat name="c" value="$chat"/>',
            {"from_name": "c", "to_name": "c", "type": "chatmessage", "value": {}},
        ),
        (
            '<Pairwise name="p" toName="a,b"/>',
            {"from_name": "p", "to_name": "a,b", "type": "pairwise", "value": {"selected": "left"}},
        ),
        (
            """<Labels name="l" toName="i"><Label value="A"/></Labels>
            <Rectangle name="r" toName="i"/>""",
            {
                "from_name": "l",
                "to_name": "i",
                "type": "rectanglelabels",
                "value": {**SIDES, "rectanglelabels": ["A"]},
            },
        ),
        (
            """<Taxonomy name="x" toName="t"><Choice value="A"><Choice value="B"/></Choice>
            </Taxonomy>""",
            {
                "from_name": "x",
                "to_name": "t",
                "type": "taxonomy",
                "value": {"taxonomy": [["A", "B"]]},
            },
        ),
    ],
)
def test_results_of_tags_with_their_own_form_fit(tags, result):
    assert fits(view(tags), result)


def test_relation_needs_both_of_its_results():
    config, first = LabelConfig(TOPICS), {**TOPIC, "id": "a"}
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}

    assert fits(config, relation, first, {**TOPIC, "id": "b"})
    assert not fits(config, first, relation)
