"""Every error Footfall raises on purpose; the CLI turns each into one line and an exit code."""

from __future__ import annotations


class FootfallError(Exception):
    """Base of all of them: str(error) is one line that says what is wrong, the value found and what to do."""


class UsageError(FootfallError, ValueError):
    """The command line asks for something that does not exist or does not fit together."""


class ConfigError(FootfallError, ValueError):
    """config.yaml or an environment override holds something that cannot be right."""


class RecordingError(FootfallError, ValueError):
    """A recording file is missing, damaged, or has wrong columns, units or times."""


class ModelError(FootfallError, ValueError):
    """A model file is missing, damaged, or its manifest does not fit its tensors."""


class ImuError(FootfallError, OSError):
    """The bus or the sensor does not answer, or answers as something else."""


class OutboxError(FootfallError, OSError):
    """The outbox file cannot be opened or written.

    transient: it may work later without anybody touching the file (a full disk, an I/O error, a file in use).
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
