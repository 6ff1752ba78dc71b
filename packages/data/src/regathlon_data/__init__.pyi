from .archives import extract
from .digits import Digits, load_digits, split_digits
from .domains import DOMAINS, DomainDigits, digit_domain
from .download import fetch
from .errors import DataError
from .registry import Content, DataFile, Manifest, manifest, manifest_names, manifests
from .scenes import Scenes, digit_scenes
from .store import Problem, data_root, is_present, located, missing_files, require, verify

__all__ = [
    "DOMAINS",
    "Content",
    "DataError",
    "DataFile",
    "Digits",
    "DomainDigits",
    "Manifest",
    "Problem",
    "Scenes",
    "data_root",
    "digit_domain",
    "digit_scenes",
    "extract",
    "fetch",
    "is_present",
    "load_digits",
    "located",
    "manifest",
    "manifest_names",
    "manifests",
    "missing_files",
    "require",
    "split_digits",
    "verify",
]
