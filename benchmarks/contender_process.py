"""Run one contender: ``python -m benchmarks.contender_process NAME ARGUMENTS PID``.

``ARGUMENTS`` is JSON. ``PID`` is a server whose CPU seconds are included; 0: none. The last line of
the output is the result and the measurement, as JSON.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    detection_contenders,
    export_contenders,
    load_contenders,
    mask_contenders,
    memory_contenders,
    table_contenders,
)
from benchmarks.processes import cpu_seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.fixtures import Result

CONTENDERS: dict[str, Callable[..., Callable[[], Result | Callable[[], Result]]]] = {
    contender.__name__: contender
    for contender in (
        detection_contenders.fill_ledger,
        detection_contenders.our_s3_sensor,
        detection_contenders.our_run_without_changes,
        detection_contenders.dagster_aws_get_objects,
        detection_contenders.plain_http_listing,
        detection_contenders.fill_gcs_bucket,
        detection_contenders.fill_gcs_ledger,
        detection_contenders.our_gcs_sensor,
        detection_contenders.dagster_gcp_get_gcs_keys,
        load_contenders.fill_s3_bucket,
        load_contenders.our_load,
        load_contenders.label_studio_source_sync,
        load_contenders.import_only,
        load_contenders.list_and_import,
        load_contenders.read_only,
        export_contenders.our_export,
        export_contenders.our_snapshot,
        export_contenders.label_studio_target_sync,
        mask_contenders.export_masks,
        mask_contenders.snapshot_masks,
        mask_contenders.convert_masks,
        memory_contenders.fill_with_shape,
        memory_contenders.load_shape,
        table_contenders.fill_with_table,
        table_contenders.load_table,
        table_contenders.load_table_alone,
        table_contenders.continue_table,
        table_contenders.label_studio_table_sync,
    )
}


def own_cpu_seconds() -> float:
    """Return the CPU seconds of this process, including its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_megabytes() -> float:
    """Return the peak memory of this process, including its libraries."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Set up one contender, run it, and print its result and what it took."""
    name, arguments, server = sys.argv[1:]
    work = CONTENDERS[name](**json.loads(arguments))
    gc.collect()  # garbage of the imports must not count
    cpu_before = own_cpu_seconds() + cpu_seconds_of(int(server))
    began = time.perf_counter()
    outcome = work()
    measurement = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": own_cpu_seconds() + cpu_seconds_of(int(server)) - cpu_before,
        "megabytes": peak_megabytes(),
    }
    result = outcome() if callable(outcome) else outcome
    sys.stdout.write("\n" + json.dumps({"result": result, **measurement}) + "\n")


if __name__ == "__main__":
    main()
