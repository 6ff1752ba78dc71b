"""What pytest does not look into for doctests: modules that need MMDetection, which is optional."""

collect_ignore_glob = ["src/regathlon_vision/detection/mmdet/*"]
