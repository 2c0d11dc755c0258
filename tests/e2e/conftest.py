"""The command line against the real servers."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.demo import samples
from ls_pipeline.cli.main import main
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.s3.bucket import S3Buckets
from tests.contracts.conftest import s3_refusal, serving

PROGRAM = str(Path(sys.executable).with_name("ls-pipeline"))
numbers = itertools.count()


class CommandResult(NamedTuple):
    """A command's exit code and output."""

    returncode: int
    stdout: str
    stderr: str


class Stage:
    """Creates buckets, runs commands and submits labels, on the real servers."""

    def __init__(self, folder):
        self.folder = folder
        self.number = f"{os.getpid()}-{next(numbers)}"

    def name(self, prefix):
        """Return a name that only this test uses."""
        return f"{prefix}-{self.number}"

    def s3(self, name):
        import boto3

        boto3.client("s3").create_bucket(Bucket=self.name(name))
        return S3Buckets().open(self.name(name))

    def gcs(self, name):
        from google.cloud import storage

        storage.Client().create_bucket(self.name(name))
        return GCSBuckets().open(self.name(name))

    def run(self, *words, code=0):
        """Run a command in this process, which has already imported everything."""
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            result = CliRunner().invoke(main, words)
        finally:
            os.chdir(before)
        command = CommandResult(result.exit_code, result.stdout, result.stderr)
        assert code in (None, command.returncode), f"{command} {result.exc_info}"
        return command

    def run_program(self, *words, code=0):
        """Run a command in a process of its own, and assert that it closes what it opens."""
        process = subprocess.run(
            [PROGRAM, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONWARNINGS": "default::ResourceWarning"},
        )
        assert code in (None, process.returncode), process.stdout + process.stderr
        assert "ResourceWarning" not in process.stderr
        return CommandResult(process.returncode, process.stdout, process.stderr)

    def add(self, name, config, source, target, source_params=None, target_params=None):
        """Add a connection; source and target are buckets."""
        file = self.folder / f"{name}.xml"
        file.write_text(config)
        words = ["--project", self.name(name), "--label-config", str(file)]
        sides = (
            ("source", source, "", source_params),
            ("target", target, "-completions", target_params),
        )
        for side, bucket, ending, params in sides:
            if bucket:
                cloud = {"s3": "s3", "gs": "gcs"}[bucket.scheme]
                words += [f"--{side}", f"{cloud}{ending}", f"--{side}-path", bucket.name]
                words += [f"--{side}-params", json.dumps(params or {})]
        self.run("connections", "add", name, *words)

    def sync(self, *names, code=0):
        return json.loads(self.run("sync", *names, "--json", code=code).stdout)["connections"]

    def tasks(self, name):
        app = LabelStudio()
        return [
            task
            for project in self.projects(name)
            for task in app.completions(
                project.id, [task.id for task in app.task_states(project.id)]
            )
        ]

    def projects(self, name):
        """Return a connection's project and its overflow projects."""
        title = self.name(name)
        return [
            project
            for project in LabelStudio().projects_with_prefix(title)
            if project.title == title or project.title.startswith(f"{title} (")
        ]

    def label_all(self, name):
        app = LabelStudio()
        for task in self.tasks(name):
            body = {"result": samples.label(task.document["data"]), "lead_time": 3.0}
            app.api.json("POST", f"api/tasks/{task.task_id}/annotations/", json=body)


@pytest.fixture
def stage(live_environment, tmp_path):
    return Stage(tmp_path)


def keys(bucket):
    return [stored.key for page in bucket.pages() for stored in page]


@pytest.fixture
def faulty_store():
    """Return an S3 store that refuses every request."""
    with serving() as server:
        server.answer = s3_refusal("AccessDenied", 403)
        yield server
