"""The rules of label configs are those of the real Label Studio."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.resources.label_studio.app import LabelStudio

PACKAGE = Path(importlib.util.find_spec("label_studio").origin).parent

TEMPLATES = {
    path.parent.name: yaml.safe_load(path.read_text())["config"]
    for path in PACKAGE.glob("annotation_templates/**/config.yml")
}

TAGS = {
    "repeater": """<Repeater on="$document" indexFlag="{{idx}}">
        <Image name="page_{{idx}}" value="$document[{{idx}}].page"/>
        <Choices name="kind_{{idx}}" toName="page_{{idx}}"><Choice value="A"/></Choices>
        </Repeater>""",
    "repeated texts": '<Text name="t_{{idx}}" value="$texts[{{idx}}]"/>',
    "list in an object": '<Text name="t" value="$letter.pages[0].text"/>',
    "item": '<Image name="i" value="$images[0]"/><Image name="j" value="$images[1]"/>',
    "path": '<Text name="t" value="$letter.body.text"/><Image name="i" value="$letter.scan"/>',
    "value list": '<Image name="i" valueList="$images"/>',
    "inside a text": '<Text name="t" value="Dear $name, your $order"/><Header value="$no"/>',
    "two variables": '<Text name="t" value="$name and $order"/>',
    "video": """<Video name="v" value="$url"/><Audio name="a" value="$url"/>
        <Text name="t" value="$note"/><Video name="w" value="$note"/>""",
    "labels": """<Text name="t" value="$text"/>
        <Labels name="l" toName="t" value="$labels"><Label value="$label"/></Labels>
        <Choices name="c" toName="t" value="$choices"/>
        <Taxonomy name="x" toName="t" value="$paths"/>
        <TextArea name="a" toName="t" value="$answer"/>""",
    "all kinds": """<HyperText name="h" value="$html"/><Header name="e" value="$title"/>
        <Paragraphs name="p" value="$talk"/><Table name="b" value="$table"/>
        <Chat name="m" value="$chat"/><List name="l" value="$items"/><Pdf name="d" value="$pdf"/>
        <TimeSeries name="s" value="$series"><Channel column="c"/></TimeSeries>""",
    "url": '<Text name="t" value="$url" valueType="url"/><Audio name="a" value="$a" resolver="x"/>',
    "no data": '<Text name="t" value="Is it a fox?"/><Header value="$title"/>',
    "nothing": "",
    "dollars": '<Text name="t" value="$"/><Text name="u" value="5 $"/><Text name="v" value="$$a"/>',
}

CONFIGS = {**TEMPLATES, **{name: f"<View>{tags}</View>" for name, tags in TAGS.items()}}

DATA = {
    "repeater": [{"document": [{"page": "a"}]}, {"document": "a"}, {"document": []}],
    "list in an object": [{"letter": {"pages": []}}, {"letter": {"pages": "a"}}, {"letter": 7}],
    "path": [
        {"letter": {"body": {"text": "a"}, "scan": "b"}},
        {"letter": {"body": "a", "scan": "b"}},
        {"letter": {"body": None, "scan": "b"}},
        {"letter": [{"body": {"text": "a"}}]},
        {"letter.body.text": "a", "letter.scan": "b"},
    ],
    "two variables": [{"name and $order": "a"}, {"name": "a", "order": "b"}],
}


def blob(config):
    parsed = LabelConfig(config)
    return [parsed.key(name).data_with("s3://b/k") for name in parsed.keys[:1]]


@pytest.fixture(scope="module")
def answers():
    """Return what Label Studio says to each label config and some data."""
    cases = [[config, DATA.get(name, []) + blob(config)] for name, config in CONFIGS.items()]
    program = Path(__file__).with_name("label_studio_rules.py")
    quiet = {"SENTRY_DSN": "", "COLLECT_ANALYTICS": "0", "LATEST_VERSION_CHECK": "0"}
    run = subprocess.run(
        [sys.executable, program],
        input=json.dumps(cases),
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return dict(zip(CONFIGS, json.loads(run.stdout), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_data_is_accepted_if_label_studio_accepts_it(name, answers):
    parsed = LabelConfig(CONFIGS[name])
    lists = [key for key in parsed.keys if parsed.key(key).is_value_list]
    verdicts = [
        (data, "" if accepted else "refused")
        for data, accepted in answers[name]["verdicts"]
        # Label Studio does not ask for these, and shows nothing without them.
        if all(isinstance(data.get(key), (str, list)) for key in lists)
    ]

    assert len(verdicts) > 3
    assert [
        (data, error)
        for data, verdict in verdicts
        if bool(error := parsed.data_error(data)) != bool(verdict)
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_sample_predictions_fit(name, answers):
    parsed = LabelConfig(CONFIGS[name])
    predictions = answers[name]["predictions"]

    assert [error for each in predictions if (error := parsed.prediction_error(each))] == []


@pytest.mark.server
def test_samples_are_imported_with_their_predictions(live_environment, answers):
    app = LabelStudio()
    project = app.create_project(f"Label configs {os.getpid()}", "")
    imported = []
    for name, answer in answers.items():
        settings = {"label_config": CONFIGS[name]}
        app.api.json("PATCH", f"api/projects/{project.id}/", json=settings)
        sample = next((data for data, accepted in answer["verdicts"] if accepted), None)
        if sample is not None:
            task = {"data": sample, "predictions": answer["predictions"]}
            imported += app.import_tasks(project.id, [task])

    assert len(CONFIGS) - len(imported) <= 3  # without a sample


@pytest.mark.slow
def test_blobs_fill_each_template_with_one_data_key(answers):
    one_key = [name for name in CONFIGS if len(LabelConfig(CONFIGS[name]).keys) == 1]
    refused = [
        name for name in one_key if answers[name]["verdicts"][-1] != [*blob(CONFIGS[name]), True]
    ]

    assert refused == []
    assert len(one_key) > 30
