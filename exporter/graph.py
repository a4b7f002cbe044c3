"""From a task's torch path to an ONNX graph, by optimum's exporter."""

from __future__ import annotations

import logging
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import onnx
from optimum.exporters.onnx import export
from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedTextConfig

from schemas.errors import ExportError
from schemas.metadata import ArtefactMetadata
from trainer.cnn_bilstm import CnnBilstmConfig
from trainer.model import TaskPath

OPSET = 17
AXES = {0: "rows", 1: "seq"}


@TasksManager.create_register("onnx")(CnnBilstmConfig.model_type, "feature-extraction")
class CnnBilstmOnnxConfig(TextEncoderOnnxConfig):  # type: ignore[misc]  # optimum has no types
    """Tells optimum where an encoder type of our own keeps its sizes."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig


def write_graph(path_model: TaskPath, output: Path) -> None:
    """Write the encoder and head as one ONNX file with dynamic rows and sequence.

    Inputs `input_ids` and `attention_mask`, int64 (rows, seq); output `logits`, float32.
    Raises ExportError for an architecture that optimum has no ONNX configuration for.
    """
    config = _onnx_config(path_model)
    optimum_log = logging.getLogger("optimum.exporters.onnx")
    level = optimum_log.level
    optimum_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Tracing warns of every Python branch on a shape; the check afterwards settles it.
            warnings.simplefilter("ignore")
            export(path_model, config, output, opset=OPSET)
    finally:
        optimum_log.setLevel(level)


def embed_metadata(graph: Path, metadata: ArtefactMetadata) -> None:
    """Put the metadata into the file itself, in place of any that it had."""
    model = onnx.load(graph)
    onnx.helper.set_model_props(model, metadata.to_props())
    model.doc_string = f"narrascan: {metadata.task}"
    onnx.checker.check_model(model)
    onnx.save(model, graph)


def _onnx_config(path_model: TaskPath) -> Any:
    """The configuration of the encoder's type, narrowed to our two inputs and one output."""
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
            return OrderedDict(input_ids=AXES, attention_mask=AXES)

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return OrderedDict(logits={0: "rows"})

    return PathConfig(path_model.config, task="feature-extraction")
