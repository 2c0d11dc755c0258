"""The standalone project: one pipeline without a prefix, which the environment configures."""

import gc

import dagster as dg

from ls_pipeline.project.build import build_definitions
from ls_pipeline.resources.environment import gc_threshold


def tune_garbage_collector(threshold: int) -> None:
    """Run Python's cycle collector rarely, and never on what is imported so far.

    A full scan allocates millions of objects, none of them in cycles. Collections took a third
    of its time.
    """
    gc.freeze()
    gc.set_threshold(threshold)


@dg.definitions
def defs() -> dg.Definitions:
    """Return all definitions, as the environment configures them.

    LS_PIPELINE_POLL_SECONDS and LS_PIPELINE_NOTIFICATION_SECONDS are the intervals of the sensors;
    Dagster's daemon starts ticks every five seconds. LS_PIPELINE_GC_THRESHOLD is set by
    `ls-pipeline start` and by the image, whose code servers and runs load only this project.
    """
    if threshold := gc_threshold():
        tune_garbage_collector(threshold)
    own = dg.Definitions(executor=dg.in_process_executor)
    return dg.Definitions.merge(build_definitions(prefix=""), own)
