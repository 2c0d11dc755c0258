"""Credentials are used, and turn up nowhere; addresses in tasks are not visited."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ls_pipeline.cli.demo import samples
from ls_pipeline.cli.servers.ports import WEBHOOKS_HOST
from tests.contracts.conftest import s3_refusal, serving
from tests.e2e.conftest import keys

pytestmark = pytest.mark.server

CANARY = "canary5f3a"


@pytest.fixture
def canaries(world, tmp_path, postgresql):
    """Put canaries, or secrets made for this test, into every credential; give them all."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        world.setenv(name, f"{CANARY}-{name}")
    world.setenv("LS_PIPELINE_DATABASE_URL", postgresql)
    world.setenv("LS_PIPELINE_WEBHOOK_URL", f"http://{WEBHOOKS_HOST}:9")
    world.setenv("LS_PIPELINE_WEBHOOK_SECRET", f"{CANARY}-webhook")
    world.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    key = json.loads(Path(os.environ["LABEL_STUDIO_GOOGLE_CREDENTIALS"]).read_text())
    middle = key["private_key"].splitlines()[5]
    return [CANARY, os.environ["LABEL_STUDIO_API_KEY"], urlsplit(postgresql).password, middle]


def dagster(select, partition, folder):
    words = ["asset", "materialize", "-m", "ls_pipeline.definitions", "--select", select]
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *words, "--partition", partition],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return done.stdout + done.stderr


def test_no_secret_is_in_any_output_log_ledger_or_file(stage, canaries, world, tmp_path):
    said, stage.run = [], stage.run_program
    source, target, other = stage.s3("in"), stage.s3("out"), stage.gcs("in")
    for key, body in samples.texts(1):
        source.put(key, body, "application/json")
        other.put(key, body, "application/json")
    source.put("bad.json", b"not json", "application/json")
    copied = {"create_local_copy": True}
    stage.add("reviews", samples.TEXT_CONFIG, source, target, copied, copied)
    stage.add("others", samples.TEXT_CONFIG, other, None)
    said.append(stage.run("sync").stdout)
    stage.label_all("reviews")
    said.append(dagster("tasks,completions,training_data", "reviews", tmp_path))
    done = ["connections show reviews", "connections history reviews", "doctor", "quarantine list"]
    said += [str(stage.run(*words.split(), code=None)) for words in done]

    # Everything that can fail, fails.
    with serving() as server:
        server.answer = s3_refusal("AccessDenied", 403)
        bad = {
            "AWS_ENDPOINT_URL": server.url,
            "STORAGE_EMULATOR_HOST": server.url,
            "LABEL_STUDIO_URL": server.url,
            "LABEL_STUDIO_API_KEY": f"{CANARY}-key",
            "LS_PIPELINE_DATABASE_URL": f"postgresql://u:{CANARY}@127.0.0.1:1/db",
        }
        for name, value in bad.items():
            with world.context() as worse:
                worse.setenv(name, value)
                said.append(str(stage.run("sync", code=1)))
        with world.context() as worse:
            for name in ("AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST"):
                worse.setenv(name, server.url)
            said.append(str(stage.run("doctor", code=None)))
            said.append(dagster("tasks", "reviews", tmp_path))
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    files += [target.get(key) for key in keys(target)]
    everything = [text.encode() for text in said] + files + list(unpacked(files))

    assert keys(target)
    assert sum(b"not json" in one or b"JSON" in one for one in everything) > 0
    for secret in canaries:
        assert not [one for one in everything if secret.encode() in one]
    assert not [one for one in everything if b"X-Amz-Signature" in one]


def unpacked(files):
    """Give what Dagster keeps compressed: snapshots of jobs and their configuration."""
    for body in files:
        for packed in re.finditer(rb"\x78[\x01\x9c\xda]", body):
            with contextlib.suppress(zlib.error):
                yield zlib.decompressobj().decompress(body[packed.start() :])


def test_addresses_in_task_data_are_not_visited(stage):
    with serving() as server:
        source = stage.s3("in")
        data = {
            "text": f"{server.url}/a.txt made my day",
            "extra": {"image": f"{server.url}/b.png"},
        }
        body = {"data": data, "predictions": [{"result": [], "model_version": f"{server.url}/c"}]}
        source.put("a.json", json.dumps(body).encode(), "application/json")
        stage.add("reviews", samples.TEXT_CONFIG, source, stage.s3("out"))
        stage.sync()
        stage.label_all("reviews")
        counts = stage.sync()["reviews"]

        assert (counts["tasks"], counts["json_files"]) == (1, 1)
        assert server.requests == []
