"""A program that runs Label Studio's own validation, without a server, for a test.

It reads a list of ``[label config, data of tasks]``. For each label config, it writes which data
Label Studio accepts: of this data, and of variants of the sample task that Label Studio makes; and
the sample predictions that the SDK makes.
"""

import contextlib
import json
import os
import sys
import types
import warnings
from pathlib import Path

VALUES = [None, True, 7, 0.5, "text", [], [{"a": 1}], {}, {"a": 1}]


def variants(sample):
    """Yield data that lacks a key of a sample, or has something else there."""
    yield sample
    yield {}
    yield {"$undefined$": "text"}
    yield {"$undefined$": None, **sample}
    for key in sample:
        yield {name: value for name, value in sample.items() if name != key}
        yield from ({**sample, key: value} for value in VALUES)


def answers(cases):
    import label_studio

    sys.path.insert(0, str(Path(label_studio.__file__).parent))
    os.environ["DJANGO_SETTINGS_MODULE"] = "core.settings.label_studio"

    from core.label_config import extract_data_types, generate_sample_task_without_check
    from label_studio_sdk.label_interface import LabelInterface
    from rest_framework.exceptions import ValidationError
    from tasks.validation import TaskValidator

    def is_accepted(config, data):
        project = types.SimpleNamespace(data_types=extract_data_types(config))
        try:
            TaskValidator(project).validate({"data": json.loads(json.dumps(data))})
        except (ValidationError, TypeError):  # for the latter, a server answers 500
            return False
        return True

    for config, more in cases:
        predictions = []
        try:
            sample = generate_sample_task_without_check(config)
        except KeyError:  # it has no example for some tags
            sample = dict.fromkeys(extract_data_types(config), "text")
        with contextlib.suppress(Exception):  # the SDK does not know every tag
            interface = LabelInterface(config)
            predictions = [interface.generate_sample_prediction() for _ in range(2)]
        yield {
            "verdicts": [[data, is_accepted(config, data)] for data in (*variants(sample), *more)],
            "predictions": [prediction for prediction in predictions if prediction],
        }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    output, sys.stdout = sys.stdout, sys.stderr  # which Label Studio prints to
    json.dump(list(answers(json.load(sys.stdin))), output)
