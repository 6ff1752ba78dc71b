"""Make digits.npz from scikit-learn's copy of the UCI digits (run once; needs scikit-learn).

uv run --with scikit-learn python datasets/embedded/make_digits.py
"""

from pathlib import Path

import numpy as np


def main() -> None:
    """Write the file beside this script."""
    from sklearn.datasets import load_digits  # type: ignore[import-not-found,import-untyped,unused-ignore]

    digits = load_digits()
    np.savez_compressed(
        Path(__file__).with_name("digits.npz"),
        images=digits.images.astype(np.uint8),
        labels=digits.target.astype(np.uint8),
    )


if __name__ == "__main__":
    main()
