"""Put an example's data into a bucket, and connect the bucket with Label Studio.

    python examples/load.py pictures

The environment says which S3 and which Label Studio; a running demo prints how to lead a terminal
to its own. Loaded twice, nothing changes.
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
    """Make a bucket of a folder's files."""
    try:
        client.create_bucket(Bucket=bucket)
    except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        print(f"{bucket} is there already")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    for file in files:
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        key = file.relative_to(folder).as_posix()
        client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes(), ContentType=kind)
    return len(files)


def main() -> None:
    """Load the example that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("example", choices=NAMES)
    example = HERE / parser.parse_args().example
    client, file = boto3.client("s3"), example / "connections.yaml"
    for one in yaml.safe_load(file.read_text())["connections"].values():
        fill(client, one["target"]["path"], HERE / "nothing")
        count = fill(client, one["source"]["path"], example / "data")
        print(f"{count} objects in s3://{one['source']['path']}")
    program = Path(sys.executable).with_name("ls-pipeline")
    sys.exit(subprocess.run([program, "connections", "apply", file], check=False).returncode)


if __name__ == "__main__":
    main()
