"""Training from a config: checks, data, the run, and the checkpoint folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed

from schemas.config.models import TrainingRun
from schemas.errors import CheckpointError, ConfigError, listing
from schemas.text.tokens import TextTokenizer
from trainer.checkpoint.reader import CheckpointFiles, read_info
from trainer.checkpoint.writer import publish_checkpoint
from trainer.data.dataset import load_tasks
from trainer.kinds import TRAINER_KINDS
from trainer.model.encoders import LoadedEncoder, load_encoder
from trainer.training.memory import bound_heap
from trainer.training.ownership import TRAINING, locked, refuse_foreign, refuse_sources
from trainer.training.run import EpochCallback, Run
from trainer.training.state import StateFolder

log = logging.getLogger(__name__)


def train(
    config: TrainingRun,
    output: Path,
    *,
    overwrite: bool = False,
    on_epoch: EpochCallback | None = None,
) -> CheckpointFiles:
    """Train until the last epoch or until nothing improves, and write the checkpoint folder.

    A run that was killed resumes from its last saved state. A folder that already contains the
    finished checkpoint of this config is left as it is. Started by `accelerate launch`, every
    process takes its share of each batch.

    on_epoch: called after each epoch, when its state is saved; what it raises ends the run, which
        resumes with the next epoch when it is started again.

    The output folder must be new, empty, or of an earlier training run; it is locked until the end.

    Raises ConfigError, DataError, EncoderError, CheckpointError, TrainingError, OutputError for a
    folder that is not its own, or LockedError.
    """
    bound_heap()
    accelerator = _accelerator(config)
    refuse_sources(output, [config])
    refuse_foreign(output, TRAINING)
    with locked(output, TRAINING):
        return _train(config, CheckpointFiles(output), accelerator, on_epoch, overwrite=overwrite)


def _train(
    config: TrainingRun,
    files: CheckpointFiles,
    accelerator: Accelerator,
    on_epoch: EpochCallback | None,
    *,
    overwrite: bool,
) -> CheckpointFiles:
    finished = files.info.exists() and not overwrite
    accelerator.wait_for_everyone()  # all have looked before any of them changes the folder
    if finished:
        _check_same(files, config)
        if accelerator.is_main_process:
            StateFolder(files).clear()  # left over if the kill came just before the end
        log.info("%s: already trained with this config", files.folder)
        return files
    check_objectives(config)
    set_seed(config.seed)
    encoder = load_encoder(
        config.encoder.source,
        markers=any(task.entity_markers for task in config.tasks.values()),
        attention=attention_for(accelerator.device.type),
    )
    _check_max_tokens(config, encoder)
    tokenizer = TextTokenizer(encoder.tokenizer, max_tokens=config.encoder.max_tokens)
    data = load_tasks(config, tokenizer)
    if overwrite and accelerator.is_main_process:  # not earlier: a run that cannot begin
        StateFolder(files).clear()  # must not cost what is there
        files.info.unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    run = Run(config, encoder, data, files, accelerator)
    corrections = run.fit(on_epoch)
    if accelerator.is_main_process:
        publish_checkpoint(
            files, config, encoder, data, run.state.history, run.best_weights, corrections
        )
    accelerator.wait_for_everyone()
    return files


def attention_for(device_type: str) -> str | None:
    """Which attention code of transformers trains fastest on a device.

    On a CPU torch's fused attention has a slow backward pass: with the plain one a run in bf16 went
    from 51.5 to 76.5 articles a second (docs/adr/0005-heads-and-frozen-embeddings.md).
    """
    return "eager" if device_type == "cpu" else None


def _accelerator(config: TrainingRun) -> Accelerator:
    # A step trains the tasks of one text, which leaves the heads of the others without a gradient.
    several = DistributedDataParallelKwargs(find_unused_parameters=len(config.tasks) > 1)
    # Unless asked for CPU, accelerate does not connect CPU processes: each would train alone.
    on_cpu = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()
    accelerator = Accelerator(
        cpu=on_cpu, step_scheduler_with_optimizer=False, kwargs_handlers=[several]
    )
    if not accelerator.is_main_process:
        logging.getLogger("trainer").setLevel(logging.ERROR)
    return accelerator


def check_objectives(config: TrainingRun) -> None:
    """Refuse before any data is read what cannot be trained (ConfigError).

    Refused are unknown losses and parameters, all at once, reversed tasks without others, and
    `metric_tasks` that cannot pick the epoch.
    """
    _check_reversals(config)
    _check_metric_tasks(config)
    problems = []
    for name, task in config.tasks.items():
        objective = TRAINER_KINDS[task.kind].objective(task)
        if objective is None:
            continue
        try:
            objective.check_loss(task)
        except ValueError as error:
            problems.append(f"  tasks.{name}.loss: {error}")
    if problems:
        raise ConfigError("\n".join([f"losses: {len(problems)} problem(s)", *problems]))


def _trained_tasks(config: TrainingRun) -> set[str]:
    """Tasks that the encoder is trained by."""
    return {
        name
        for name, task in config.tasks.items()
        if TRAINER_KINDS[task.kind].objective(task) is not None
    }


def _check_metric_tasks(config: TrainingRun) -> None:
    """Refuse tasks whose metric cannot pick the epoch (ConfigError)."""
    trained = _trained_tasks(config)
    for name in config.train.metric_tasks:
        if name not in config.tasks:
            reason = "does not exist"
        elif name not in trained:
            reason = "is not trained"
        elif config.tasks[name].reversal:
            reason = "is reversed"
        else:
            continue
        eligible = sorted(task for task in trained if not config.tasks[task].reversal)
        raise ConfigError(
            f"train.metric_tasks: {name!r} cannot pick the epoch: it {reason}",
            hint=f"choose from {listing(eligible)}",
        )


def _check_reversals(config: TrainingRun) -> None:
    """Refuse reversed tasks that are not trained, or are the only ones that are (ConfigError)."""
    trained = _trained_tasks(config)
    for name, task in config.tasks.items():
        if task.reversal and name not in trained:
            raise ConfigError(f"tasks.{name}.reversal: has no effect on a task that is not trained")
    if trained and all(config.tasks[name].reversal for name in trained):
        raise ConfigError(
            f"tasks.{min(trained)}.reversal: no task is left that the encoder is trained for",
            hint="add the task that is to do without what this one finds",
        )


def _check_max_tokens(config: TrainingRun, encoder: LoadedEncoder) -> None:
    wanted, allowed = config.encoder.max_tokens, encoder.max_tokens
    if allowed is not None and wanted > allowed:
        raise ConfigError(
            f"encoder.max_tokens: {wanted} is more than the {allowed} that "
            f"{config.encoder.source} can take"
        )


def _check_same(files: CheckpointFiles, config: TrainingRun) -> None:
    if read_info(files).config_sha256 != config.sha256():
        raise CheckpointError(
            f"{files.folder}: contains a checkpoint of another config",
            hint="name another --output, or train again with --overwrite",
        )
