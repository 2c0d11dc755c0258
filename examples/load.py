"""Upload an example's data to a bucket, and connect the bucket to Label Studio.

    python examples/load.py pictures

S3 and Label Studio are those of the environment; a running demo prints a command that sets it.
Loading an example again changes nothing.
"""

import argparse
import mimetypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import yaml

HERE = Path(__file__).parent
NAMES = sorted(file.parent.name for file in HERE.glob("*/connections.yaml"))


def fill(client: Any, bucket: str, folder: Path) -> int:
    """Create a bucket, upload the files of a folder, and return their number."""
    try:
        client.create_bucket(Bucket=bucket)
    except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        print(f"{bucket} exists already")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    for file in files:
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        key = file.relative_to(folder).as_posix()
        client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes(), ContentType=kind)
    return len(files)


def main() -> None:
    """Load the example named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("example", choices=NAMES)
    example = HERE / parser.parse_args().example
    client, file = boto3.client("s3"), example / "connections.yaml"
    for connection in yaml.safe_load(file.read_text())["connections"].values():
        fill(client, connection["target"]["path"], HERE / "nothing")
        bucket = connection["source"]["path"]
        print(f"{fill(client, bucket, example / 'data')} objects in s3://{bucket}")
    program = Path(sys.executable).with_name("ls-pipeline")
    sys.exit(subprocess.run([program, "connections", "apply", file], check=False).returncode)


if __name__ == "__main__":
    main()
