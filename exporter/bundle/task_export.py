"""Export of one task: its fp32 file run, fitted, checked and described, in named steps."""

from __future__ import annotations

import logging

import numpy as np

from batch.engines import slower_engines
from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.runner import GraphRunner, load_tokenizer
from batch.scoring.session import OpenGraph, TaskSession
from exporter.checks.probes import probe_texts, record_probes
from exporter.checks.torch_outputs import RunTorch
from exporter.checks.torch_parity import verify
from exporter.kinds import EXPORTER_KINDS
from exporter.kinds.base import Fitted, LabelledOutputs
from exporter.precision.gate import Reference
from exporter.precision.reduce import ExportedTask
from schemas.bundle.facts import Portability, References, Verification
from schemas.bundle.folder import MAX_FILE_BYTES, BundleFiles
from schemas.bundle.metadata import ArtefactMetadata, VariantMetadata, metadata_model
from schemas.bundle.probes import Probes
from schemas.errors import CheckpointError, ExportError
from schemas.io.files import content_facts
from schemas.io.regular_file import read_regular_file
from schemas.kinds import KINDS
from schemas.tasks.parents import parents_of
from schemas.tasks.sections import Section
from schemas.text.model_text import ModelText, model_text
from schemas.text.windows import most_tokens
from trainer.checkpoint.reader import Checkpoint

log = logging.getLogger(__name__)


class TaskExport:
    """One task of a checkpoint whose graph is written.

    config: section `decision` of the task. files: of the bundle that is being made.
    run_torch: the model that the graph was traced from.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        task: str,
        config: Section,
        files: BundleFiles,
        run_torch: RunTorch,
    ) -> None:
        self._checkpoint, self._task, self._config, self._files = checkpoint, task, config, files
        self._task_info = checkpoint.info.tasks[task]
        self._kind, self._exporter = (
            KINDS[self._task_info.kind],
            EXPORTER_KINDS[self._task_info.kind],
        )
        self._run_torch = run_torch
        width = checkpoint.model.head(task).width
        self._output = self._kind.output(width).in_windows(self._task_info.windows)
        self._tokenizer_json = read_regular_file(files.tokenizer, max_bytes=MAX_FILE_BYTES)
        opened = OpenGraph.open(GraphFile.of_path(files.onnx(task)), choose_device("cpu"))
        self._session = self._session_of(opened)
        self._runner = GraphRunner(
            self._session,
            load_tokenizer(self._tokenizer_json, str(files.tokenizer)),
            max_tokens=checkpoint.info.max_tokens,
            pad_id=checkpoint.info.pad_id,
            text=self._task_info.text,
            windows=self._task_info.windows,
        )

    def run(self) -> ExportedTask:
        """Fit the decision, check the file against torch, and collect what it says of itself."""
        rows = self._run_heldout()
        fitted = self._exporter.fit(rows, self._config)
        path = self._exporter.figure_path(self._files.folder, self._task)
        self._exporter.figure(path, self._task, fitted, rows)
        log.info("%s: comparing with torch", self._task)
        sessions = [self._session, *self._other_engines()]
        verification = self._verify(sessions, rows, fitted)
        probes, portability = self._record_probes(sessions)
        metadata = self._describe(fitted, verification, portability)
        self._log_result(fitted, verification)
        reference = Reference(
            task=self._task,
            kind=self._task_info.kind,
            rows=rows,
            config=self._config,
            fitted=fitted,
            output=self._output,
            tokenizer_json=self._tokenizer_json,
            max_tokens=self._checkpoint.info.max_tokens,
            pad_id=self._checkpoint.info.pad_id,
            neighbours=self._checkpoint.model.head(self._task).neighbours,
        )
        path_model = self._checkpoint.model.path(self._task)
        return ExportedTask(VariantMetadata(metadata, {}), probes, reference, path_model)

    def _session_of(self, opened: OpenGraph) -> TaskSession:
        return TaskSession(opened, {self._task: self._output})

    def _other_engines(self) -> list[TaskSession]:
        """The same file by every other engine that can run it here."""
        graph, device = self._session.graph, self._session.device
        return [
            self._session_of(OpenGraph.open(graph, device, engine=engine))
            for engine in slower_engines(self._session.engine, "fp32", device)
        ]

    def _run_heldout(self) -> LabelledOutputs:
        """Held-out texts of the task with their outputs and gold values."""
        gold = self._checkpoint.heldout(self._task)[1]
        texts = self._runner.tokenize(self._heldout_texts())
        log.info("%s: %d held-out texts", self._task, len(texts))
        (outputs,) = self._runner.outputs(texts)
        if not all(np.isfinite(output).all() for output in outputs):
            raise ExportError(
                f"{self._task}: the model gives outputs that are not numbers", hint="train it again"
            )
        encoded = self._kind.encode(gold, self._task_info.labels)
        return LabelledOutputs(
            self._task_info.labels,
            texts,
            outputs,
            self._exporter.targets(encoded, outputs),
            parents_of(self._task_info.options),
            self._checkpoint.corrections(self._task),
        )

    def _heldout_texts(self) -> list[ModelText]:
        """What the model reads of the held-out texts."""
        articles, _ = self._checkpoint.heldout(self._task)
        spec = self._task_info.text
        most = most_tokens(self._task_info.windows, self._checkpoint.info.max_tokens)
        try:
            return [
                model_text(article, spec, max_tokens=most, keep_source=self._kind.NEEDS_WORDS)
                for article in articles
            ]
        except ValueError as error:
            path = self._checkpoint.files.heldout(self._task)
            raise CheckpointError(f"{path}: {error}") from error

    def _verify(
        self, sessions: list[TaskSession], rows: LabelledOutputs, fitted: Fitted
    ) -> Verification:
        """Compare every engine with torch; returns the result of the one that is furthest off."""
        results = [
            verify(
                session,
                self._run_torch,
                self._runner,
                rows.texts,
                lambda outputs, texts: self._kind.decide(
                    outputs, self._task_info.labels, fitted.decision, texts
                ),
            )
            for session in sessions
        ]
        return max(results, key=lambda result: result.max_logit_difference)

    def _record_probes(self, sessions: list[TaskSession]) -> tuple[Probes, Portability]:
        tokenizer = load_tokenizer(self._tokenizer_json, str(self._files.tokenizer))
        max_tokens = self._checkpoint.info.max_tokens
        texts = probe_texts(tokenizer, self._task_info.text, max_tokens=max_tokens)
        runner = self._runner.without_windows()
        return record_probes(sessions, self._run_torch, runner, self._task, texts)

    def _describe(
        self, fitted: Fitted, verification: Verification, portability: Portability
    ) -> ArtefactMetadata:
        """Metadata of the fp32 file."""
        task_info, info = self._task_info, self._checkpoint.info
        return metadata_model(task_info.kind).model_validate(
            {
                **dict(fitted.decision),
                "task": self._task,
                "kind": task_info.kind,
                "labels": task_info.labels,
                "evidence": fitted.evidence,
                "max_tokens": info.max_tokens,
                "pad_id": info.pad_id,
                "text": task_info.text,
                "windows": task_info.windows,
                "tokenizer_sha256": content_facts(self._tokenizer_json).sha256,
                "references": self._references(),
                "encoder": info.encoder,
                "training": task_info.training,
                "metrics": {
                    "validation": fitted.validation,
                    "cross_validated": fitted.cross_validated,
                    "verification": verification,
                    "portability": portability,
                },
                "precision": "fp32",
                "cost": None,
                "variants": {},
                "recalibration": None,
            }
        )

    def _references(self) -> References | None:
        """Ids of the reference texts, for a kind that has any."""
        if not self._kind.HAS_REFERENCES:
            return None
        neighbours = self._checkpoint.model.head(self._task).neighbours
        ids = self._checkpoint.reference_ids(self._task)
        return References(neighbours=neighbours, ids=ids)

    def _log_result(self, fitted: Fitted, verification: Verification) -> None:
        log.info(
            "%s: outputs within %.1e of torch, %.3f %% of decisions differ, held-out %s, "
            "cross-validated %s",
            self._task,
            verification.max_logit_difference,
            100 * verification.differing_decisions,
            fitted.validation.summary(),
            fitted.cross_validated.summary(),
        )
