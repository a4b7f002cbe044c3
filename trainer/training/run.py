"""The run itself: one shared encoder, one head a task, several data sets at once."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler

from schemas.arrays import Float32Array
from schemas.config.models import TrainingRun
from schemas.errors import TrainingError
from schemas.io.files import atomic_path
from schemas.kinds import KINDS
from schemas.kinds.base import OutputSpec
from schemas.text.tokens import TokenizedText
from trainer.checkpoint.reader import CheckpointFiles, Corrections
from trainer.data.batches import Batch, plan_epoch, steps_by_epoch
from trainer.data.task_data import TaskData, TokenizedRows
from trainer.evaluation.held_out import predict_together
from trainer.evaluation.history import (
    EpochRecord,
    EpochScores,
    History,
    draw_curves,
    mean_metric,
)
from trainer.kinds import TRAINER_KINDS
from trainer.model.encoders import LoadedEncoder
from trainer.model.heads import Head
from trainer.model.multitask import MultiTaskModel
from trainer.training.gradients import Gradients
from trainer.training.memory import STEPS_BETWEEN, give_back_memory
from trainer.training.model import make_model
from trainer.training.optim import make_optimizer, make_schedule, use_bf16
from trainer.training.progress import TrainingProgress
from trainer.training.shared_rows import (
    rows_of_steps,
    tasks_that_share_held_out_rows,
    tasks_that_share_rows,
)
from trainer.training.state import RunState, StateFolder
from trainer.training.token_dropout import TokenDropout

EpochCallback: TypeAlias = Callable[[EpochRecord], None]

log = logging.getLogger(__name__)

DRAWN_EVERY_S = 30.0
"""Seconds of training after which its curves are drawn again; a picture takes half a second."""


class Run:
    """State of one run: model, optimizer, schedule, state."""

    def __init__(
        self,
        config: TrainingRun,
        encoder: LoadedEncoder,
        data: Mapping[str, TaskData],
        files: CheckpointFiles,
        accelerator: Accelerator,
    ) -> None:
        self.config, self.train, self.data, self.files = config, config.train, data, files
        self.pad_id = encoder.pad_id
        self.token_dropout = TokenDropout(encoder.tokenizer, config.train.token_dropout)
        self.accelerator = accelerator
        device = accelerator.device
        self.bf16 = use_bf16(config.train, device)
        model = make_model(config, encoder, data)
        self.objectives = {
            name: objective
            for name in data
            if (task := config.tasks[name])
            and (objective := TRAINER_KINDS[task.kind].objective(task)) is not None
        }
        self.sharing = tasks_that_share_rows(config, data, self.objectives)
        self.held_out_together = tasks_that_share_held_out_rows(data, self.objectives)
        self.rows = rows_of_steps(config, data, self.objectives, self.sharing)
        self.steps = steps_by_epoch(self.rows, config.train, seed=config.seed)
        self.total_steps = sum(self.steps)
        optimizer = make_optimizer(model, config.train)
        schedule = make_schedule(optimizer, config.train, steps=self.total_steps)
        self.model: MultiTaskModel
        self.optimizer: AdamW
        self.schedule: LRScheduler
        self.model, self.optimizer, self.schedule = accelerator.prepare(model, optimizer, schedule)
        self.gradients = Gradients(
            self.model,
            accelerator,
            pad_id=encoder.pad_id,
            max_tokens=config.encoder.max_tokens,
            bf16=self.bf16,
        )
        self.losses = {
            name: objective.loss(config.tasks[name], data[name], self._head(name))
            for name, objective in self.objectives.items()
        }
        self.folder = StateFolder(files)
        self.best_weights = self.folder.best_weights
        fresh = RunState(
            config_sha256=config.sha256(),
            data_sha256="".join(task.sha256() for task in data.values()),
            history=History(metric_name=config.train.metric),
        )
        self.state = self.folder.load(self.accelerator, fresh)
        self._drawn_at = time.monotonic()
        precision = "bf16" if self.bf16 else "fp32"
        processes = accelerator.num_processes
        log.info(
            "device %s, %s, %d steps at most%s",
            device,
            precision,
            self.total_steps,
            f", {processes} processes" if processes > 1 else "",
        )

    def fit(self, on_epoch: EpochCallback | None = None) -> Corrections:
        """Train epoch by epoch; `on_epoch` is called after each is saved, and may raise to stop.

        Returns corrections of the held-out rows' outputs, by task, of tasks that need them.
        """
        if not self.objectives:
            log.info("no task is trained: the encoder stays as it is")
            return self._finish_heads()
        done = sum(self.steps[: self.state.epoch]) + self.state.step
        if done:
            log.info("resuming at step %d of %d", done, self.total_steps)
        if len(self.objectives) > 1 and not self.state.initial_losses:
            self.state.initial_losses = {name: loss for name, (_, loss) in self._evaluate().items()}
        main = self.accelerator.is_main_process
        try:
            with TrainingProgress(self.total_steps, done, enabled=main) as progress:
                self._train_epochs(progress, on_epoch)
        finally:
            if main and self.state.history.epochs:
                draw_curves(self.state.history, self.files.curves)
        return self._finish_heads()

    def _train_epochs(self, progress: TrainingProgress, on_epoch: EpochCallback | None) -> None:
        while self.state.epoch < self.train.epochs and not self._stale():
            self._train_epoch(progress)
            record = self._finish_epoch()
            best = self.state.history.best is record
            progress.epoch(record, epochs=self.train.epochs, best=best)
            self.folder.save(self.accelerator, self.state)
            if on_epoch is not None:
                on_epoch(record)

    def _stale(self) -> bool:
        history = self.state.history
        stale = history.epochs_since_best() >= self.train.patience_epochs
        if stale and history.best is not None:
            log.info("all epochs since %d were worse: stopping early", history.best.epoch)
        return stale

    def _train_epoch(self, progress: TrainingProgress) -> None:
        lengths = {name: rows.lengths for name, rows in self.rows.items()}
        plan = plan_epoch(self.rows, self.train, seed=self.config.seed, epoch=self.state.epoch)
        saved_at = clock = time.monotonic()
        for batch in plan[self.state.step :]:
            due = clock - saved_at >= self.train.save_every_s
            losses, save = self._step(batch, save=due)
            for task, loss in losses.items():
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"task {task!r}: training has diverged: the loss is {loss} in epoch "
                        f"{self.state.epoch + 1}, step {self.state.step + 1}",
                        hint="lower train.learning_rate, or set train.precision to fp32",
                    )
            rows, tokens = len(batch.rows), sum(lengths[batch.task][row] for row in batch.rows)
            now = time.monotonic()
            self._count(losses, rows, tokens, now - clock)
            clock = now
            progress.step(rows=rows, tokens=tokens, loss=sum(losses.values()))
            if self.state.step % STEPS_BETWEEN == 0:
                give_back_memory()
            if save and self.state.step < len(plan):
                self.folder.save(self.accelerator, self.state)
                saved_at = clock = time.monotonic()

    def _step(self, batch: Batch, *, save: bool) -> tuple[dict[str, float], bool]:
        """Train on one batch; every process takes its share of the rows.

        save: whether this process would save the state now; clocks differ, so the first decides.
        Returns the mean loss of the whole batch for each task, and whether all are to save.
        """
        rows = self.data[batch.task].train
        device, processes = self.accelerator.device, self.accelerator.num_processes
        places = range(len(batch.rows))[self.accelerator.process_index :: processes]
        # A process without a row of its own goes along with weight 0, or the others would wait.
        row_weight = processes / len(batch.rows) if places else 0.0
        places = places or range(1)
        own = [batch.rows[place] for place in places]
        # Seeded by the place in the run, so that neither a restart nor processes change it.
        seeds = [(self.config.seed, self.state.epoch, self.state.step, place) for place in places]
        texts = [
            self.token_dropout.hide(rows.texts[row], seed)
            for row, seed in zip(own, seeds, strict=True)
        ]
        tasks = self.sharing[batch.task]
        losses = self._add_gradients(tasks, texts, own, row_weight)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.train.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        wish = float(save and self.accelerator.is_main_process)
        means = self.accelerator.reduce(losses, "mean").tolist()
        wishes = self.accelerator.reduce(torch.tensor(wish, device=device), "sum")
        unweighted = {
            task: mean / self.state.weight(task) for task, mean in zip(tasks, means, strict=True)
        }
        return unweighted, bool(wishes > 0)

    def _add_gradients(
        self,
        tasks: Sequence[str],
        texts: Sequence[TokenizedText],
        rows: Sequence[int],
        row_weight: float,
    ) -> Tensor:
        """Run the rows through the model and back.

        rows: of the training data, one a text. row_weight: weight of a row in the loss, which makes
        the average of gradients over processes that over all rows.
        Returns the loss of each task with its weight, (tasks,).
        """

        def loss_of_task(task: str, outputs: Tensor, part: slice) -> Tensor:
            data = self.data[task].train
            labels = self.objectives[task].collate(data, rows[part], outputs.shape[1])
            loss = self.losses[task](outputs, labels.to(outputs.device))
            return self.state.weight(task) * row_weight * len(outputs) * loss

        def loss_of(outputs: Sequence[Tensor], part: slice) -> list[Tensor]:
            return [
                loss_of_task(task, of_task, part)
                for task, of_task in zip(tasks, outputs, strict=True)
            ]

        outputs = {task: self._output(task, self._head(task)) for task in tasks}
        return self.gradients.add(outputs, texts, loss_of)

    def _count(self, losses: Mapping[str, float], rows: int, tokens: int, seconds: float) -> None:
        state = self.state
        state.step += 1
        for task, loss in losses.items():
            state.loss_sums[task] = state.loss_sums.get(task, 0.0) + loss
            state.loss_steps[task] = state.loss_steps.get(task, 0) + 1
        state.rows += rows
        state.tokens += tokens
        state.seconds += seconds

    def _finish_epoch(self) -> EpochRecord:
        """Score the held-out rows, remember the epoch, keep the weights if they are the best."""
        state = self.state
        validation, validation_loss = {}, {}
        for name, (outputs, loss) in self._evaluate().items():
            validation_loss[name] = loss
            scores = self.objectives[name].score(self.config.tasks[name], self.data[name], outputs)
            validation[name] = EpochScores.model_validate(scores.model_dump())
        metric, metric_error = mean_metric(
            [validation[task] for task in self._metric_tasks], self.train.metric
        )
        record = EpochRecord(
            epoch=state.epoch + 1,
            loss={task: total / state.loss_steps[task] for task, total in state.loss_sums.items()},
            validation_loss=validation_loss,
            validation=validation,
            metric=metric,
            metric_error=metric_error,
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

    @property
    def _metric_tasks(self) -> Sequence[str]:
        """Tasks whose metric picks the epoch."""
        return self.train.metric_tasks or [
            task for task in self.objectives if not self.config.tasks[task].reversal
        ]

    def _evaluate(self) -> dict[str, tuple[list[Float32Array], float]]:
        """Outputs of the held-out rows of each task as it is now, and their mean loss."""
        evaluated = {}
        for tasks in self.held_out_together:
            heads = {task: self._head(task) for task in tasks}
            outputs = self._run_heads(heads, self.data[tasks[0]].validation)
            for task, of_task in zip(tasks, outputs, strict=True):
                loss = self.objectives[task].held_out_loss(
                    self.losses[task], of_task, self.data[task].validation
                )
                evaluated[task] = of_task, loss
        return {name: evaluated[name] for name in self.objectives}

    def _finish_heads(self) -> Corrections:
        """Set what of the heads depends on the trained encoder, that of the best epoch."""
        model = self.accelerator.unwrap_model(self.model)
        if self.best_weights.exists():
            model.load_state_dict(load_file(self.best_weights))
        with torch.no_grad():
            finished = {
                name: TRAINER_KINDS[self.config.tasks[name].kind].finish_head(
                    self._head(name), self.config.tasks[name], data, partial(self._run_head, name)
                )
                for name, data in self.data.items()
            }
        changed = any(head.changed for head in finished.values())
        if self.accelerator.is_main_process and (changed or not self.objectives):
            self._keep_weights()
        return {
            name: head.corrections
            for name, head in finished.items()
            if head.corrections is not None
        }

    def _output(self, task: str, head: Head) -> OutputSpec:
        """Output of a head of a task."""
        kind = KINDS[self.config.tasks[task].kind]
        return kind.output(head.width).in_windows(self.data[task].windows)

    def _head(self, task: str) -> Head:
        model: MultiTaskModel = self.accelerator.unwrap_model(self.model)
        return model.head(task)

    def _run_head(self, task: str, head: Head, rows: TokenizedRows) -> list[Float32Array]:
        """Output of each row by a head of a task over the encoder as it is now."""
        (outputs,) = self._run_heads({task: head}, rows)
        return outputs

    def _run_heads(
        self, heads: Mapping[str, Head], rows: TokenizedRows
    ) -> list[list[Float32Array]]:
        """Output of each row by each of several heads; the encoder runs once."""
        model = self.accelerator.unwrap_model(self.model)
        return predict_together(
            model.encoder,
            [(head, self._output(task, head)) for task, head in heads.items()],
            rows,
            pad_id=self.pad_id,
            max_tokens=self.config.encoder.max_tokens,
            bf16=self.bf16,
            accelerator=self.accelerator,
        )

    def _write_history(self, *, is_best: bool) -> None:
        self.files.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.files.history) as temporary:
            temporary.write_text(self.state.history.model_dump_json(indent=1), encoding="utf-8")
        if time.monotonic() - self._drawn_at >= DRAWN_EVERY_S:
            draw_curves(self.state.history, self.files.curves)
            self._drawn_at = time.monotonic()
        if is_best:
            self._keep_weights()

    def _keep_weights(self) -> None:
        self.best_weights.parent.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model)
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        with atomic_path(self.best_weights) as temporary:
            save_file(weights, temporary)
