"""The training run: one shared encoder, one head a task, several data sets at once."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler

from schemas.config import TrainingRun
from schemas.errors import CheckpointError, ConfigError, TrainingError
from schemas.files import atomic_path
from schemas.tokens import TextTokenizer
from trainer.batches import Batch, plan_epoch, steps_by_task
from trainer.checkpoint import CheckpointFiles, read_info
from trainer.dataset import TaskData, load_task
from trainer.encoders import LoadedEncoder, load_encoder
from trainer.evaluate import metric_value, predict, score, to_batch
from trainer.history import EpochRecord, History, draw_curves
from trainer.losses import LossFunction, make_loss
from trainer.model import MultiTaskModel
from trainer.optim import make_optimizer, make_schedule, use_bf16
from trainer.progress import TrainingProgress
from trainer.publish import publish_checkpoint
from trainer.state import RunState, StateFolder

log = logging.getLogger(__name__)


def train(config: TrainingRun, output: Path, *, overwrite: bool = False) -> CheckpointFiles:
    """Train until the last epoch or until nothing improves, and write the checkpoint folder.

    A run that was killed goes on where it last saved its state. A folder that already holds the
    finished checkpoint of this config is left as it is.

    Raises ConfigError, DataError, EncoderError, CheckpointError or TrainingError.
    """
    files = CheckpointFiles(output)
    if files.info.exists() and not overwrite:
        _check_same(files, config)
        StateFolder(files).clear()  # left over if the kill came just before the end
        log.info("%s: already trained with this config", output)
        return files
    _check_losses(config)
    set_seed(config.seed)
    markers = any(task.entity_markers for task in config.tasks.values())
    encoder = load_encoder(config.encoder.source, markers=markers)
    _check_max_tokens(config, encoder)
    tokenizer = TextTokenizer(encoder.tokenizer, max_tokens=config.encoder.max_tokens)
    data = {name: load_task(name, config, tokenizer) for name in config.tasks}
    if overwrite:  # not earlier: a run that cannot begin must not cost what is there
        StateFolder(files).clear()
        files.info.unlink(missing_ok=True)
    run = _Run(config, encoder, data, files)
    run.fit()
    if run.accelerator.is_main_process:
        publish_checkpoint(files, config, encoder, data, run.state.history, run.best_weights)
    return files


class _Run:
    """Everything one run holds: model, optimiser, schedule, state."""

    def __init__(
        self,
        config: TrainingRun,
        encoder: LoadedEncoder,
        data: Mapping[str, TaskData],
        files: CheckpointFiles,
    ) -> None:
        self.config, self.train, self.data, self.files = config, config.train, data, files
        self.pad_id = encoder.pad_id
        self.accelerator = Accelerator()
        device = self.accelerator.device
        self.bf16 = use_bf16(config.train, device)
        labels = {name: len(task.labels) for name, task in data.items()}
        model = MultiTaskModel(encoder.model, labels, dropout=config.train.dropout)
        self.total_steps = self.steps_per_epoch * config.train.epochs
        optimizer = make_optimizer(model, config.train)
        schedule = make_schedule(optimizer, config.train, steps=self.total_steps)
        self.model: MultiTaskModel
        self.optimizer: AdamW
        self.schedule: LRScheduler
        self.model, self.optimizer, self.schedule = self.accelerator.prepare(
            model, optimizer, schedule
        )
        self.losses = _make_losses(config, data)
        self.folder = StateFolder(files)
        self.best_weights = self.folder.best_weights
        fresh = RunState(
            config_sha256=config.sha256(),
            data_sha256="".join(task.sha256() for task in data.values()),
            history=History(metric_name=config.train.metric),
        )
        self.state = self.folder.load(self.accelerator, fresh)
        precision = "bf16" if self.bf16 else "fp32"
        log.info("device %s, %s, %d steps at most", device, precision, self.total_steps)

    @property
    def steps_per_epoch(self) -> int:
        rows = {name: len(task.train) for name, task in self.data.items()}
        return sum(steps_by_task(rows, self.train).values())

    def fit(self) -> None:
        """Train epoch by epoch."""
        done = self.state.epoch * self.steps_per_epoch + self.state.step
        if done:
            log.info("going on at step %d of %d", done, self.total_steps)
        main = self.accelerator.is_main_process
        with TrainingProgress(self.total_steps, done, enabled=main) as progress:
            while self.state.epoch < self.train.epochs and not self._stale():
                self._train_epoch(progress)
                record = self._finish_epoch()
                best = self.state.history.best is record
                progress.epoch(record, epochs=self.train.epochs, best=best)
                self.folder.save(self.accelerator, self.state)

    def _stale(self) -> bool:
        stale = self.state.history.epochs_since_best() >= self.train.patience_epochs
        if stale:
            log.info("no better epoch in %d: stopping early", self.train.patience_epochs)
        return stale

    def _train_epoch(self, progress: TrainingProgress) -> None:
        lengths = {name: task.train.lengths for name, task in self.data.items()}
        plan = plan_epoch(lengths, self.train, seed=self.config.seed, epoch=self.state.epoch)
        saved_at = clock = time.monotonic()
        for batch in plan[self.state.step :]:
            loss = self._step(batch)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"task {batch.task!r}: training has diverged: the loss is {loss} in epoch "
                    f"{self.state.epoch + 1}, step {self.state.step + 1}",
                    hint="lower train.learning_rate, or set train.precision to fp32",
                )
            rows, tokens = len(batch.rows), sum(lengths[batch.task][row] for row in batch.rows)
            now = time.monotonic()
            self._count(batch.task, loss, rows, tokens, now - clock)
            clock = now
            progress.step(rows=rows, tokens=tokens, loss=loss)
            if now - saved_at >= self.train.save_every_s and self.state.step < len(plan):
                self.folder.save(self.accelerator, self.state)
                saved_at = clock = time.monotonic()

    def _step(self, batch: Batch) -> float:
        rows = self.data[batch.task].train
        device = self.accelerator.device
        input_ids, attention_mask = to_batch(
            [rows.texts[row] for row in batch.rows], self.pad_id, device
        )
        labels = torch.from_numpy(rows.labels[batch.rows]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.model(input_ids, attention_mask, batch.task)
        loss = self.losses[batch.task](logits, labels)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.train.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _count(self, task: str, loss: float, rows: int, tokens: int, seconds: float) -> None:
        state = self.state
        state.step += 1
        state.loss_sums[task] = state.loss_sums.get(task, 0.0) + loss
        state.loss_steps[task] = state.loss_steps.get(task, 0) + 1
        state.rows += rows
        state.tokens += tokens
        state.seconds += seconds

    def _finish_epoch(self) -> EpochRecord:
        """Score the held-out rows, remember the epoch, keep the weights if they are the best."""
        state = self.state
        validation = {
            name: score(
                predict(
                    self.model,
                    name,
                    task.validation,
                    pad_id=self.pad_id,
                    device=self.accelerator.device,
                    bf16=self.bf16,
                ),
                task.validation.labels,
            )
            for name, task in self.data.items()
        }
        values = [metric_value(scores, self.train.metric) for scores in validation.values()]
        record = EpochRecord(
            epoch=state.epoch + 1,
            loss={task: total / state.loss_steps[task] for task, total in state.loss_sums.items()},
            validation=validation,
            metric=sum(values) / len(values),
            learning_rate=float(self.schedule.get_last_lr()[0]),
            seconds=state.seconds,
            articles_per_s=state.rows / max(state.seconds, 1e-9),
            tokens_per_s=state.tokens / max(state.seconds, 1e-9),
        )
        state.history.epochs.append(record)
        state.next_epoch()
        if self.accelerator.is_main_process:
            self._write_history(is_best=state.history.best is record)
        return record

    def _write_history(self, *, is_best: bool) -> None:
        self.files.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.files.history) as temporary:
            temporary.write_text(self.state.history.model_dump_json(indent=1), encoding="utf-8")
        draw_curves(self.state.history, self.files.curves)
        if is_best:
            model = self.accelerator.unwrap_model(self.model)
            self.best_weights.parent.mkdir(parents=True, exist_ok=True)
            weights = {name: value.contiguous() for name, value in model.state_dict().items()}
            with atomic_path(self.best_weights) as temporary:
                save_file(weights, temporary)


def _make_losses(config: TrainingRun, data: Mapping[str, TaskData]) -> dict[str, LossFunction]:
    return {
        name: make_loss(
            config.tasks[name].loss.name,
            positives=np.asarray(task.positives, dtype=np.int64),
            rows=len(task.train),
            **config.tasks[name].loss.parameters,
        )
        for name, task in data.items()
    }


def _check_losses(config: TrainingRun) -> None:
    """Refuse unknown losses and parameters before any data is read, all at once."""
    problems = []
    for name, task in config.tasks.items():
        try:
            make_loss(
                task.loss.name, positives=np.ones(1, np.int64), rows=2, **task.loss.parameters
            )
        except ValueError as error:
            problems.append(f"  tasks.{name}.loss: {error}")
    if problems:
        raise ConfigError("\n".join([f"losses: {len(problems)} problem(s)", *problems]))


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
            f"{files.folder}: holds a checkpoint of another config",
            hint="name another --output, or train anew with --overwrite",
        )
