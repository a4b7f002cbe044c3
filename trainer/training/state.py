"""Saved state of an unfinished run, written atomically so that a killed run resumes."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from pydantic import BaseModel, ValidationError

from schemas.errors import CheckpointError
from schemas.io.files import atomic_folder, settle_folder
from schemas.validation import validation_problems
from trainer.checkpoint.reader import CheckpointFiles
from trainer.evaluation.history import History

SMALLEST_LOSS = 1e-6
"""Initial loss below which tasks are not compared."""

WEIGHT_POWER = 0.5
"""Between equal weights (0), which drown small losses, and relative losses (1), with which tasks of
a large loss learn too late; see docs/lab/joint-training.md."""


class RunState(BaseModel):
    """Position of a run and sums of its current epoch.

    epoch, step: the next step; steps are counted within the epoch.
    initial_losses: of the held-out rows before the first step, by task; empty for a single task.
    loss_sums, loss_steps: by task, of the current epoch.
    rows, tokens, seconds: of the current epoch.
    """

    config_sha256: str
    data_sha256: str
    history: History
    epoch: int = 0
    step: int = 0
    initial_losses: dict[str, float] = {}
    loss_sums: dict[str, float] = {}
    loss_steps: dict[str, int] = {}
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def weight(self, task: str) -> float:
        """Weight of the loss of a task.

            weight = (smallest initial loss / initial loss of the task) ** WEIGHT_POWER

        The cross-entropy of one label is twenty times the mean loss of independent labels, which
        would otherwise teach the encoder little. With a power of 1 each task would count by the
        share of its initial loss that is left, as in the relative losses of Chen, Badrinarayanan,
        Lee, Rabinovich (2018), GradNorm, ICML.
        """
        if not self.initial_losses:
            return 1.0
        floored = {name: max(loss, SMALLEST_LOSS) for name, loss in self.initial_losses.items()}
        weight: float = (min(floored.values()) / floored[task]) ** WEIGHT_POWER
        return weight

    def next_epoch(self) -> None:
        """Move to the next epoch and reset the sums."""
        self.epoch += 1
        self.step = self.rows = self.tokens = 0
        self.seconds = 0.0
        self.loss_sums, self.loss_steps = {}, {}


class StateFolder:
    """The folder `state/` of an output folder.

    `run/` has weights, optimizer and random state; `best.safetensors` has the weights of the best
    epoch.
    """

    def __init__(self, files: CheckpointFiles) -> None:
        self._folder = files.state
        self.best_weights = files.state / "best.safetensors"

    @property
    def _run(self) -> Path:
        return self._folder / "run"

    def save(self, accelerator: Accelerator, state: RunState) -> None:
        """Save the state; an older state is replaced when the new one is complete.

        Every process must call this, because each one saves its own random state.
        """
        accelerator.wait_for_everyone()
        folders = atomic_folder(self._run) if accelerator.is_main_process else nullcontext(None)
        with folders as folder:
            shared = broadcast_object_list([str(folder)])
            accelerator.save_state(shared[0], safe_serialization=True)
            if folder is not None:
                (folder / "run.json").write_text(state.model_dump_json(indent=1), encoding="utf-8")
            accelerator.wait_for_everyone()  # the folder is renamed after all have written to it
        accelerator.wait_for_everyone()

    def load(self, accelerator: Accelerator, fresh: RunState) -> RunState:
        """Load a saved state, or return `fresh` if there is none.

        Raises CheckpointError if the saved state is of another config or other data.
        """
        if accelerator.is_main_process:
            settle_folder(self._run)
        accelerator.wait_for_everyone()
        path = self._run / "run.json"
        if not path.is_file():
            return fresh
        try:
            state = RunState.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise CheckpointError(
                f"{path}: is damaged, or of another version: {validation_problems(error, 'state')}",
                hint="start again with --overwrite",
            ) from error
        for what, sha256, saved_sha256 in (
            ("config", fresh.config_sha256, state.config_sha256),
            ("data", fresh.data_sha256, state.data_sha256),
        ):
            if sha256 != saved_sha256:
                raise CheckpointError(
                    f"{self._folder}: contains the state of a run with another {what}, or of "
                    "another version",
                    hint=f"resume with the same {what}, name another --output, or start again with "
                    "--overwrite",
                )
        try:
            accelerator.load_state(str(self._run))  # pickles are read with weights_only
        except Exception as error:  # accelerate, torch and pickle share no base class
            raise CheckpointError(
                f"{self._folder}: the state of the run cannot be loaded",
                hint="start again with --overwrite",
            ) from error
        return state

    def clear(self) -> None:
        """Remove the state of a finished or abandoned run."""
        shutil.rmtree(self._folder, ignore_errors=True)
