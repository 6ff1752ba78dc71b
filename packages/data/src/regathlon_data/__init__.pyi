from .archives import extract
from .digits import Digits, load_digits, split_digits
from .download import fetch
from .errors import DataError
from .registry import Content, DataFile, Manifest, manifest, manifest_names, manifests
from .store import Problem, data_root, is_present, missing_files, require, verify

__all__ = [
    "Content",
    "DataError",
    "DataFile",
    "Digits",
    "Manifest",
    "Problem",
    "data_root",
    "extract",
    "fetch",
    "is_present",
    "load_digits",
    "manifest",
    "manifest_names",
    "manifests",
    "missing_files",
    "require",
    "split_digits",
    "verify",
]
