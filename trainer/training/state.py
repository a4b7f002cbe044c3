"""The state of a run that is not finished: saved whole, so that a killed run goes on."""

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


class RunState(BaseModel):
    """Where a run stands.

    epoch, step: the next step to take; steps count within the epoch.
    loss_sums, loss_steps: by task, of the epoch under way.
    rows, tokens, seconds: of the epoch under way.
    """

    config_sha256: str
    data_sha256: str
    history: History
    epoch: int = 0
    step: int = 0
    loss_sums: dict[str, float] = {}
    loss_steps: dict[str, int] = {}
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def next_epoch(self) -> None:
        """Clear what belongs to one epoch."""
        self.epoch += 1
        self.step = self.rows = self.tokens = 0
        self.seconds = 0.0
        self.loss_sums, self.loss_steps = {}, {}


class StateFolder:
    """`state/` of an output folder: `run/` with weights, optimiser and random state, and `best/`
    with the weights of the best epoch.
    """

    def __init__(self, files: CheckpointFiles) -> None:
        self._folder = files.state
        self.best_weights = files.state / "best.safetensors"

    @property
    def _run(self) -> Path:
        return self._folder / "run"

    def save(self, accelerator: Accelerator, state: RunState) -> None:
        """Save everything; an older state stays until the new one is whole.

        Every process must call this: each one saves the random state that is its own.
        """
        accelerator.wait_for_everyone()
        folders = atomic_folder(self._run) if accelerator.is_main_process else nullcontext(None)
        with folders as folder:
            shared = broadcast_object_list([str(folder)])
            accelerator.save_state(shared[0], safe_serialization=True)
            if folder is not None:
                (folder / "run.json").write_text(state.model_dump_json(indent=1), encoding="utf-8")
            accelerator.wait_for_everyone()  # a folder is renamed when all have written to it
        accelerator.wait_for_everyone()

    def load(self, accelerator: Accelerator, fresh: RunState) -> RunState:
        """Go on from a saved state, or start with `fresh` if there is none.

        Raises CheckpointError if the saved state is of another config or other data.
        """
        if accelerator.is_main_process:
            settle_folder(self._run)
        accelerator.wait_for_everyone()
        stored = self._run / "run.json"
        if not stored.is_file():
            return fresh
        try:
            state = RunState.model_validate_json(stored.read_bytes())
        except ValidationError as error:
            raise CheckpointError(
                f"{stored}: is damaged: {validation_problems(error, 'state')}",
                hint="start again with --overwrite",
            ) from error
        for what, ours, theirs in (
            ("config", fresh.config_sha256, state.config_sha256),
            ("data", fresh.data_sha256, state.data_sha256),
        ):
            if ours != theirs:
                raise CheckpointError(
                    f"{self._folder}: holds the state of a run with another {what}",
                    hint="go on with the same, name another --output, or start again with "
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
