"""The assets of the standalone project."""

from ls_pipeline.assets.pipeline import STANDALONE
from ls_pipeline.assets.settings import settings
from ls_pipeline.project.build import work_assets

CONNECTIONS = STANDALONE.partitions
tasks, completions, training_data = work_assets(STANDALONE, 30)
source_settings, target_settings = settings(STANDALONE, "source"), settings(STANDALONE, "target")
