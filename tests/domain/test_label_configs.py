"""The label configs that ship with Label Studio: their results come back from Parquet."""

import importlib.util
import json
import warnings
from pathlib import Path

import pytest

from tests.domain.snapshot.test_tables import labeled, restored, through_parquet, without_time

PACKAGE = Path(importlib.util.find_spec("label_studio").origin).parent
TEMPLATES = sorted(PACKAGE.glob("annotation_templates/**/config.yml"))


def config_of(template):
    import yaml

    return yaml.safe_load(template.read_text()).get("config", "")


def predictions(config):
    """Give results of every kind that a label config can give, as the SDK makes them up."""
    from label_studio_sdk.label_interface import LabelInterface

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interface = LabelInterface(config)
        made = [interface.generate_sample_prediction() for _ in range(3)]
    return json.loads(json.dumps(made))


def test_label_studio_ships_label_configs():
    assert len(TEMPLATES) > 30


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.parent.name)
def test_results_of_a_shipped_label_config_come_back_as_they_went(template):
    try:
        made = predictions(config_of(template))
    except Exception as error:  # noqa: BLE001 - the SDK knows not every tag
        pytest.skip(f"label-studio-sdk makes up no results for it: {error!r}")
    results = [one["result"] for one in made if one]
    one = labeled(1, *results)
    found = through_parquet(one)

    assert json.dumps(restored(found)[0], sort_keys=True) == json.dumps(
        without_time(one), sort_keys=True
    )
    assert [json.loads(row["value"]) for row in found["results"] if row["value"]] == [
        result["value"] for some in results for result in some if "value" in result
    ]
