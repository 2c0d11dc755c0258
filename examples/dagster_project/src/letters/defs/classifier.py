"""A classifier of letters, which is trained on each new snapshot, and a report of the labels."""

import json
import os
import pickle
from pathlib import Path

import dagster as dg
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from ls_pipeline import (
    Snapshot,
    TrainingData,
    automation_sensor,
    new_labels,
    new_snapshot,
    training_data_dep,
)

LETTERS = training_data_dep("labeling", connection="letters")


def labeled_texts(snapshot: Snapshot, split: str) -> pd.DataFrame:
    """Return one row per task: ``text`` and ``topic``."""
    tasks = snapshot.frame("tasks", split, ["task_id", "data"]).set_index("task_id")
    results = snapshot.frame("results", split, ["task_id", "labels"]).set_index("task_id")
    texts = tasks["data"].map(lambda data: json.loads(data)["text"])
    topics = results["labels"].map(lambda labels: labels[0])
    return pd.DataFrame({"text": texts, "topic": topics}).dropna()


@dg.asset(deps=[LETTERS], automation_condition=new_snapshot("labeling"), kinds={"scikitlearn"})
def classifier(
    context: dg.AssetExecutionContext, labeling_training_data: dg.ResourceParam[TrainingData]
) -> dg.MaterializeResult:
    """Train on the snapshot that Dagster names as the input, and record which one that was."""
    snapshot = labeling_training_data.materialized(context, "letters")
    texts = labeled_texts(snapshot, "train")
    model = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(texts["text"], texts["topic"])
    file = Path(os.environ.get("MODELS", "models")) / f"{snapshot.name}.pickle"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(model))
    return dg.MaterializeResult(
        metadata={"snapshot": snapshot.name, "uri": snapshot.uri, "texts": len(texts)},
        data_version=dg.DataVersion(snapshot.name),
    )


@dg.asset_check(asset=classifier)
def trained_on_its_input(
    context: dg.AssetCheckExecutionContext, labeling_training_data: dg.ResourceParam[TrainingData]
) -> dg.AssetCheckResult:
    """Check that the classifier was trained on the snapshot that Dagster recorded as its input."""
    event = context.instance.get_latest_materialization_event(classifier.key)
    materialization = event.asset_materialization
    used = materialization.metadata["snapshot"].value
    passed = labeling_training_data.was_input_of(materialization, used)
    return dg.AssetCheckResult(passed=passed, metadata={"snapshot": used})


@dg.asset(deps=[LETTERS], automation_condition=new_labels("labeling", 1, connection="letters"))
def label_report(
    context: dg.AssetExecutionContext, labeling_training_data: dg.ResourceParam[TrainingData]
) -> dg.MaterializeResult:
    """Count the labels, once enough of them are new."""
    snapshot = labeling_training_data.materialized(context, "letters")
    topics = pd.concat(labeled_texts(snapshot, split) for split in ("train", "validation", "test"))
    counts = topics["topic"].value_counts().to_dict()
    return dg.MaterializeResult(metadata={"snapshot": snapshot.name, "topics": counts})


reports = automation_sensor("label_reports", dg.AssetSelection.assets(label_report))
"""`new_labels` is written in Python: Dagster's default automation sensor does not evaluate it."""
