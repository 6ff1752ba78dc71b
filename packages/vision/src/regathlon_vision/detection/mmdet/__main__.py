"""Train a detector from an MMDetection config, with mmengine's runner.

python -m regathlon_vision.detection.mmdet CONFIG [--work-dir DIR] [--resume] [--cfg-options KEY=VALUE ...]
"""

from __future__ import annotations

import argparse

import regathlon_vision.detection.mmdet  # noqa: F401  operators and hook, before mmdet is imported

from mmdet.utils import register_all_modules  # type: ignore[import-not-found]  # isort: skip
from mmengine.config import Config, DictAction  # type: ignore[import-not-found]  # isort: skip
from mmengine.runner import Runner  # type: ignore[import-not-found]  # isort: skip


def main() -> None:
    """Read the config and train."""
    parser = argparse.ArgumentParser(
        prog="python -m regathlon_vision.detection.mmdet", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("config", help="an MMDetection config")
    parser.add_argument("--work-dir", default="work_dir", help="folder of checkpoints and logs")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint there")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="changes to the config")
    options = parser.parse_args()
    register_all_modules()
    config = Config.fromfile(options.config)
    config.work_dir = options.work_dir
    config.resume = options.resume
    if options.cfg_options:
        config.merge_from_dict(options.cfg_options)
    Runner.from_cfg(config).train()


if __name__ == "__main__":
    main()
