"""Models that convert and must not pass in silence; `python -m tests.converter.odd_models FOLDER` writes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
from keras import layers

SHAPE = (64, 6)


def net(*first: Any, dead: bool = False) -> Any:
    """Return a small convolutional net with random weights, or with none but zeros."""
    keras.utils.set_random_seed(3)
    body = [*first, layers.Conv1D(8, 5, activation="relu"), layers.GlobalAveragePooling1D()]
    model = keras.Sequential([keras.Input(SHAPE), *body, layers.Dense(1, activation="sigmoid")])
    if dead:
        model.set_weights([0 * weight for weight in model.get_weights()])
    return model


def shy() -> Any:
    """Return a net with an answer per frame that sees four frames ahead, but wakes for large values only."""
    asleep = {
        "kernel_initializer": keras.initializers.Constant(0.1),
        "bias_initializer": keras.initializers.Constant(-10),
    }
    body = [layers.Conv1D(4, 9, padding="same", activation="relu", **asleep), layers.Conv1D(1, 1, activation="sigmoid")]
    return keras.Sequential([keras.Input((64, 3)), *body])


def main(folder: Path) -> None:
    """Write them all."""
    net().save(folder / "small.keras")
    for name, written in {"zip.h5": "small.keras", "zip": "small.keras", "hdf5.keras": "small.h5"}.items():
        net().save(folder / written)
        (folder / name).write_bytes((folder / written).read_bytes())
    scaling = layers.Normalization(mean=[0, 0, 5, 0, 0, 0], variance=[40, 40, 40, 2, 2, 2])
    net(scaling).save(folder / "normalised.keras")
    shy().save(folder / "shy.keras")
    net(dead=True).save(folder / "dead.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
