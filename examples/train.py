"""Train a text classifier on a snapshot, and record which one.

    python examples/train.py s3://my-bucket/labels --output model
    python examples/train.py s3://my-bucket/labels --snapshot 00000007-3f2a9c41d0b2 --output model

The texts are under ``text`` in the task data, or under ``--data-key``; the classes are the choices.
If annotators disagree, the majority wins.
"""

import argparse
import json
import pickle
import sys
from pathlib import Path

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ls_pipeline import Snapshot, open_snapshot

CLASSES_AT_LEAST = 2


def examples(snapshot: Snapshot, split: str, data_key: str) -> pd.DataFrame:
    """Return one row per task: ``text`` and ``label``."""
    tasks = snapshot.frame("tasks", split, ["task_id", "data"]).set_index("task_id")
    results = snapshot.frame(
        "results", split, ["task_id", "type", "labels", "was_cancelled"]
    ).query("type == 'choices' and not was_cancelled")
    votes = results.explode("labels").groupby("task_id")["labels"]
    labels = votes.agg(lambda choices: choices.mode().iloc[0])
    texts = tasks["data"].map(lambda data: json.loads(data)[data_key])
    return pd.DataFrame({"text": texts, "label": labels}).dropna()


def main() -> None:
    """Train and measure a model, and write it with the snapshot that it comes from."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("where", help="the target's folder: s3://…, gs://… or a local one")
    parser.add_argument("--snapshot", default="", help="a snapshot's name [default: the newest]")
    parser.add_argument("--data-key", default="text")
    parser.add_argument("--output", type=Path, default=Path("model"))
    arguments = parser.parse_args()

    snapshot = open_snapshot(arguments.where, arguments.snapshot)
    parts = {
        split: examples(snapshot, split, arguments.data_key)
        for split in ("train", "validation", "test")
    }
    classes = sorted(parts["train"]["label"].unique())
    if len(classes) < CLASSES_AT_LEAST:
        sys.exit(
            f"The training split of {snapshot.uri} has {len(parts['train'])} labeled texts of "
            f"{len(classes)} classes. A classifier needs two classes: label more texts first."
        )
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    model.fit(parts["train"]["text"], parts["train"]["label"])
    accuracy = {
        split: model.score(part["text"], part["label"])
        for split, part in parts.items()
        if len(part)
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "model.pickle").write_bytes(pickle.dumps(model))
    report = {
        "snapshot": snapshot.uri,
        "examples": {split: len(part) for split, part in parts.items()},
        "accuracy": accuracy,
    }
    (arguments.output / "model.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
