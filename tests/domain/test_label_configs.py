"""The results of Label Studio's own label configs survive Parquet."""

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
    """Return sample results of a label config, as the SDK makes them up."""
    from label_studio_sdk.label_interface import LabelInterface

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interface = LabelInterface(config)
        samples = [interface.generate_sample_prediction() for _ in range(3)]
    return json.loads(json.dumps(samples))


def test_label_studio_ships_label_configs():
    assert len(TEMPLATES) > 30


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.parent.name)
def test_results_of_a_shipped_label_config_survive_parquet(template):
    try:
        samples = predictions(config_of(template))
    except Exception as error:  # noqa: BLE001 - the SDK does not know every tag
        pytest.skip(f"label-studio-sdk makes no sample results for it: {error!r}")
    results = [sample["result"] for sample in samples if sample]
    completion = labeled(1, *results)
    rows = through_parquet(completion)

    assert json.dumps(restored(rows)[0], sort_keys=True) == json.dumps(
        without_time(completion), sort_keys=True
    )
    assert [json.loads(row["value"]) for row in rows["results"] if row["value"]] == [
        result["value"] for some in results for result in some if "value" in result
    ]
