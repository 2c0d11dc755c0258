"""Train a text classifier on a snapshot, and write down which one it was.

    python examples/train.py s3://my-bucket/labels --output model
    python examples/train.py s3://my-bucket/labels --snapshot 00000007-3f2a9c41d0b2 --output model

The texts are the task data's ``text``, or another ``--data-key``; the classes are the labels of
the choices. Where annotators differ, the majority counts.
"""

import argparse
import json
import pickle
from pathlib import Path

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ls_pipeline import Snapshot, open_snapshot


def examples(snapshot: Snapshot, split: str, data_key: str) -> pd.DataFrame:
    """Give a row a task: ``text`` and ``label``."""
    tasks = snapshot.frame("tasks", split, ["task_id", "data"]).set_index("task_id")
    results = snapshot.frame(
        "results", split, ["task_id", "type", "labels", "was_cancelled"]
    ).query("type == 'choices' and not was_cancelled")
    votes = results.explode("labels").groupby("task_id")["labels"]
    labels = votes.agg(lambda found: found.mode().iloc[0])
    texts = tasks["data"].map(lambda data: json.loads(data)[data_key])
    return pd.DataFrame({"text": texts, "label": labels}).dropna()


def main() -> None:
    """Train, measure, and write the model with its origin."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("where", help="the target's folder: s3://…, gs://… or on this disk")
    parser.add_argument("--snapshot", default="", help="a snapshot's name [the newest]")
    parser.add_argument("--data-key", default="text")
    parser.add_argument("--output", type=Path, default=Path("model"))
    arguments = parser.parse_args()

    snapshot = open_snapshot(arguments.where, arguments.snapshot)
    parts = {
        split: examples(snapshot, split, arguments.data_key)
        for split in ("train", "validation", "test")
    }
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    model.fit(parts["train"]["text"], parts["train"]["label"])
    accuracy = {
        split: model.score(found["text"], found["label"])
        for split, found in parts.items()
        if len(found)
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "model.pickle").write_bytes(pickle.dumps(model))
    told = {
        "snapshot": snapshot.uri,
        "examples": {split: len(found) for split, found in parts.items()},
        "accuracy": accuracy,
    }
    (arguments.output / "model.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
