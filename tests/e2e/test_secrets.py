"""Credentials appear in no output, log or file; URLs in tasks are not visited."""

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
def canaries(live_environment, tmp_path, postgresql):
    """Set every credential to a text that only this test uses; return the texts to search for."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        live_environment.setenv(name, f"{CANARY}-{name}")
    live_environment.setenv("LS_PIPELINE_DATABASE_URL", postgresql)
    live_environment.setenv("LS_PIPELINE_WEBHOOK_URL", f"http://{WEBHOOKS_HOST}:9")
    live_environment.setenv("LS_PIPELINE_WEBHOOK_SECRET", f"{CANARY}-webhook")
    live_environment.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    key = json.loads(Path(os.environ["LABEL_STUDIO_GOOGLE_CREDENTIALS"]).read_text())
    key_line = key["private_key"].splitlines()[5]
    return [CANARY, os.environ["LABEL_STUDIO_API_KEY"], urlsplit(postgresql).password, key_line]


def dagster(select, partition, folder):
    command = ["asset", "materialize", "-m", "ls_pipeline.definitions", "--select", select]
    process = subprocess.run(
        [sys.executable, "-m", "dagster", *command, "--partition", partition],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return process.stdout + process.stderr


def test_no_secret_appears_in_any_output_or_file(stage, canaries, live_environment, tmp_path):
    outputs, stage.run = [], stage.run_program
    source, target, other = stage.s3("in"), stage.s3("out"), stage.gcs("in")
    for key, body in samples.texts(1):
        source.put(key, body, "application/json")
        other.put(key, body, "application/json")
    source.put("bad.json", b"not json", "application/json")
    params = {"create_local_copy": True}
    stage.add("reviews", samples.TEXT_CONFIG, source, target, params, params)
    stage.add("others", samples.TEXT_CONFIG, other, None)
    outputs.append(stage.run("sync").stdout)
    stage.label_all("reviews")
    outputs.append(dagster("tasks,completions,training_data", "reviews", tmp_path))
    commands = (
        "connections show reviews",
        "connections history reviews",
        "doctor",
        "quarantine list",
    )
    outputs += [str(stage.run(*command.split(), code=None)) for command in commands]

    # Everything that can fail, fails.
    with serving() as server:
        server.answer = s3_refusal("AccessDenied", 403)
        broken = {
            "AWS_ENDPOINT_URL": server.url,
            "STORAGE_EMULATOR_HOST": server.url,
            "LABEL_STUDIO_URL": server.url,
            "LABEL_STUDIO_API_KEY": f"{CANARY}-key",
            "LS_PIPELINE_DATABASE_URL": f"postgresql://u:{CANARY}@127.0.0.1:1/db",
        }
        for name, value in broken.items():
            with live_environment.context() as context:
                context.setenv(name, value)
                outputs.append(str(stage.run("sync", code=1)))
        with live_environment.context() as context:
            for name in ("AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST"):
                context.setenv(name, server.url)
            outputs.append(str(stage.run("doctor", code=None)))
            outputs.append(dagster("tasks", "reviews", tmp_path))
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    files += [target.get(key) for key in keys(target)]
    everything = [text.encode() for text in outputs] + files + list(decompressed(files))

    assert keys(target)
    assert sum(b"not json" in text or b"JSON" in text for text in everything) > 0
    for secret in canaries:
        assert not [text for text in everything if secret.encode() in text]
    assert not [text for text in everything if b"X-Amz-Signature" in text]


def decompressed(files):
    """Yield what Dagster stores compressed: snapshots of jobs and their configuration."""
    for body in files:
        for stream in re.finditer(rb"\x78[\x01\x9c\xda]", body):
            with contextlib.suppress(zlib.error):
                yield zlib.decompressobj().decompress(body[stream.start() :])


def test_urls_in_task_data_are_not_visited(stage):
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
