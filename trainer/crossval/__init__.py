"""k-fold cross-validation: every fold is trained without the rows it is then tested on."""

from __future__ import annotations

from trainer.crossval.results import CrossValidation, CrossValidationFiles
from trainer.crossval.run import cross_validate

__all__ = ["CrossValidation", "CrossValidationFiles", "cross_validate"]
