"""The four questions about a new image: framework, Jupyter, data science, use case."""

from __future__ import annotations

from typing import Final

JUPYTER: Final = ("jupyterlab", "ipywidgets")
DATA_SCIENCE: Final = ("numpy", "pandas", "scipy", "scikit-learn", "matplotlib", "seaborn", "tqdm")
USE_CASES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "ml": ("general machine learning", ("xgboost", "lightgbm", "tensorboard")),
    "cv": ("computer vision", ("opencv-python-headless", "pillow", "albumentations", "timm")),
    "nlp": ("language", ("transformers", "datasets", "tokenizers", "sentencepiece", "evaluate")),
    "rl": ("reinforcement learning", ("gymnasium", "stable-baselines3")),
    "audio": ("audio", ("librosa", "soundfile", "audiomentations")),
    "ts": ("time series", ("statsmodels", "prophet", "sktime")),
    "llm": ("large language models", ("transformers", "accelerate", "peft", "datasets", "bitsandbytes", "trl")),
    "custom": ("nothing more", ()),
}
"""Use case -> what it is, packages of pip."""
