"""From torch to one ONNX graph for tasks that share an encoder, and from that to their files."""

from __future__ import annotations

import logging
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnx_ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from optimum.exporters.onnx import export
from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedTextConfig

from batch.scoring.session import INPUTS, LOGITS, task_logits
from schemas.bundle.folder import BundleFiles
from schemas.bundle.metadata import ArtefactMetadata, shared_props
from schemas.bundle.variants import Precision
from schemas.errors import ExportError
from trainer.model.cnn_bilstm import CnnBilstmConfig
from trainer.model.multitask import JointPath

OPSET = 17
AXES = {0: "rows", 1: "seq"}


@TasksManager.create_register("onnx")(CnnBilstmConfig.model_type, "feature-extraction")
class CnnBilstmOnnxConfig(TextEncoderOnnxConfig):  # type: ignore[misc]  # optimum has no types
    """Tells optimum where an encoder type of our own keeps its sizes."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig


@dataclass(frozen=True)
class GroupGraph:
    """One graph of an encoder and the heads of tasks that read the same text.

    model: inputs `input_ids` and `attention_mask`, int64 (rows, seq); for each task the output
    `logits.<task>`, float32 (rows, labels).
    """

    model: onnx.ModelProto
    tasks: tuple[str, ...]

    def cut(self, task: str) -> onnx.ModelProto:
        """The nodes that one task needs, unchanged, with its output under the name `logits`.

        Because nothing else is changed, the logits of a task have the same bits either way.
        """
        model = onnx_ir.from_proto(self.model)
        (output,) = (one for one in model.graph.outputs if one.name == task_logits(task))
        output.name = LOGITS
        model.graph.outputs[:] = [output]
        RemoveUnusedNodesPass()(model)
        return onnx_ir.to_proto(model)

    def write(self, files: BundleFiles, precision: Precision = "fp32") -> None:
        """Write the file of each task, and for two tasks and more the one they share."""
        for task in self.tasks:
            onnx.save(self.cut(task), files.onnx(task, precision))
        if len(self.tasks) > 1:
            onnx.save(self.model, files.shared(self.tasks[0], precision))


def trace_graph(path_model: JointPath) -> GroupGraph:
    """Trace the encoder and its heads once, with dynamic rows and sequence.

    Raises ExportError for an architecture that optimum has no ONNX configuration for.
    """
    config = _onnx_config(path_model)
    optimum_log = logging.getLogger("optimum.exporters.onnx")
    level = optimum_log.level
    optimum_log.setLevel(logging.ERROR)
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            # Tracing warns of every Python branch on a shape; the check afterwards settles it.
            warnings.simplefilter("ignore")
            graph = Path(folder, "graph.onnx")
            export(path_model, config, graph, opset=OPSET)
            return GroupGraph(onnx.load(graph), path_model.tasks)
    finally:
        optimum_log.setLevel(level)


def embed_metadata(graph: Path, metadata: ArtefactMetadata) -> None:
    """Put the metadata into the file of one task, in place of any that it had."""
    _embed(graph, metadata.to_props(), metadata.task)


def embed_shared_metadata(graph: Path, tasks: Sequence[ArtefactMetadata]) -> None:
    """Put the metadata of every task into the file that they share, in place of any it had."""
    _embed(graph, shared_props(tasks), ", ".join(about.task for about in tasks))


def _embed(graph: Path, props: dict[str, str], named: str) -> None:
    model = onnx.load(graph, load_external_data=False)
    onnx.helper.set_model_props(model, props)
    model.doc_string = f"narrascan: {named}"
    onnx.checker.check_model(model)
    onnx.save(model, graph)


def _onnx_config(path_model: JointPath) -> Any:
    """The configuration of the encoder's type, narrowed to our two inputs and an output a task."""
    model_type = path_model.config.model_type
    try:
        constructor = TasksManager.get_exporter_config_constructor(
            "onnx",
            model_type=model_type,
            task="feature-extraction",
            library_name="transformers",
        )
    except (KeyError, ValueError) as error:
        raise ExportError(
            f"encoder type {model_type!r} cannot be exported: {error}",
            hint="known to work: bert, roberta, xlm-roberta, mpnet, electra, distilbert, "
            "deberta-v2, modernbert, cnn-bilstm",
        ) from error
    base: Any = getattr(constructor, "func", constructor)

    class PathConfig(base):  # type: ignore[misc]  # the base is known only at run time
        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return OrderedDict((name, AXES) for name in INPUTS)

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return OrderedDict((task_logits(task), {0: "rows"}) for task in path_model.tasks)

    return PathConfig(path_model.config, task="feature-extraction")
