"""From torch to one ONNX graph for tasks that share an encoder, and from that to their files."""

from __future__ import annotations

import logging
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
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

from batch.scoring.session import INPUTS, output_in_graph
from schemas.bundle.folder import BundleFiles
from schemas.bundle.metadata import ArtefactMetadata
from schemas.bundle.props import to_props
from schemas.bundle.variants import Precision
from schemas.errors import ExportError
from schemas.kinds.base import OutputSpec
from trainer.model.cnn_bilstm import CnnBilstmConfig
from trainer.model.multitask import JointPath

OPSET = 17
AXES = {0: "rows", 1: "seq"}


@TasksManager.create_register("onnx")(CnnBilstmConfig.model_type, "feature-extraction")
class CnnBilstmOnnxConfig(TextEncoderOnnxConfig):  # type: ignore[misc]  # optimum has no types
    """Field names of the CNN-BiLSTM config, for optimum."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig


@dataclass(frozen=True)
class GroupGraph:
    """One graph of an encoder and the heads of tasks that read the same text.

    model: inputs `input_ids` and `attention_mask`, int64 (rows, seq); for each task an output,
    float32, and its extra output where it has one, named as `schemas.bundle.props.output_name` does
    in a graph of several tasks.
    outputs: of each task, as the file of this task alone has it.
    """

    model: onnx.ModelProto
    tasks: tuple[str, ...]
    outputs: Mapping[str, OutputSpec]

    def cut(self, task: str) -> onnx.ModelProto:
        """The nodes that one task needs, unchanged, with its outputs under their own names.

        Because nothing else is changed, the outputs of a task have the same bits in both files.
        """
        model = onnx_ir.from_proto(self.model)
        by_name = {output.name: output for output in model.graph.outputs}
        own = self.outputs[task]
        outputs = [by_name[name] for name in traced_names(own, task)]
        model.graph.outputs[:] = outputs
        for output, name in zip(outputs, own.names, strict=True):
            output.name = name
        RemoveUnusedNodesPass()(model)
        return onnx_ir.to_proto(model)

    def write(self, files: BundleFiles, precision: Precision = "fp32") -> None:
        """Write the file of each task, and for two tasks and more the one they share."""
        for task in self.tasks:
            onnx.save(self.cut(task), files.onnx(task, precision))
        if len(self.tasks) > 1:
            onnx.save(self.model, files.shared(self.tasks[0], precision))


def traced_names(output: OutputSpec, task: str) -> tuple[str, ...]:
    """Names of a task's outputs in the graph that is traced, whatever the number of tasks."""
    return output_in_graph(output, task, tasks=2).names


def trace_graph(path_model: JointPath, outputs: Mapping[str, OutputSpec]) -> GroupGraph:
    """Trace the encoder and its heads once, with dynamic rows and sequence.

    outputs: of each task of the model, in the same order.
    Raises ExportError for an architecture that optimum has no ONNX configuration for.
    """
    config = _onnx_config(path_model, outputs)
    optimum_log = logging.getLogger("optimum.exporters.onnx")
    level = optimum_log.level
    optimum_log.setLevel(logging.ERROR)
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            # Tracing warns of every Python branch on a shape; the check afterwards settles it.
            warnings.simplefilter("ignore")
            graph = Path(folder, "graph.onnx")
            export(path_model, config, graph, opset=OPSET)
            return GroupGraph(onnx.load(graph), path_model.tasks, outputs)
    finally:
        optimum_log.setLevel(level)


def embed_metadata(graph: Path, tasks: Sequence[ArtefactMetadata]) -> None:
    """Put the metadata of its tasks into a file, in place of any that it had."""
    model = onnx.load(graph, load_external_data=False)
    onnx.helper.set_model_props(model, to_props(tasks))
    model.doc_string = f"narrascan: {', '.join(metadata.task for metadata in tasks)}"
    onnx.checker.check_model(model)
    onnx.save(model, graph)


def _onnx_config(path_model: JointPath, outputs: Mapping[str, OutputSpec]) -> Any:
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
            return OrderedDict(
                (name, AXES if output.per_token else {0: "rows"})
                for task, output in outputs.items()
                for name in traced_names(output, task)
            )

    return PathConfig(path_model.config, task="feature-extraction")
