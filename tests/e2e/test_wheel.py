"""The wheel that `make wheel` builds, in an environment of its own."""

import shlex
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.e2e.test_start import started, wait_for
from tests.test_docs import README, commands

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel, built by the command in the Makefile."""
    (recipe,) = [
        line.strip() for line in (ROOT / "Makefile").read_text().splitlines() if "pip wheel" in line
    ]
    folder = tmp_path_factory.mktemp("dist")
    _python, *words = shlex.split(recipe.replace("dist .", str(folder)))
    subprocess.run([sys.executable, *words, str(ROOT)], check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """Return the folder of programs of an environment with the wheel.

    Its dependencies are those of the tests' environment. The package there is not found: it is
    installed by a .pth file, which counts only in the environment's own folder.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin/python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    subprocess.run([*install, str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.mark.slow
def test_wheel_has_all_files_of_the_package(wheel):
    files = {str(file.relative_to(ROOT)) for file in (ROOT / "ls_pipeline").rglob("*")}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("ls_pipeline/")}

    assert packed == {
        name for name in files if "__pycache__" not in name and (ROOT / name).is_file()
    }


@pytest.mark.server
def test_first_command_of_the_readme_works_from_the_wheel(live_environment, programs, tmp_path):
    import boto3

    live_environment.delenv("PYTHONPATH", raising=False)
    live_environment.delenv("LS_PIPELINE_HOME")
    live_environment.chdir(tmp_path)
    first = commands(README)[0]
    bucket = first[first.index("--source-path") + 1]
    boto3.client("s3").create_bucket(Bucket=bucket)
    boto3.client("s3").put_object(Bucket=bucket, Key="a.json", Body=b'{"text": "a"}')
    script = "import ls_pipeline; print(ls_pipeline.__file__)"
    found = subprocess.run(
        [programs / "python", "-c", script], capture_output=True, text=True, check=True
    )
    with started(shlex.join(first), tmp_path, program=programs / "ls-pipeline") as log:
        wait_for(lambda: "1 loaded as tasks" in log.read_text())

    assert Path(found.stdout).is_relative_to(programs.parent)
