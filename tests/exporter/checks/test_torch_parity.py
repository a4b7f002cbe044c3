"""What the gate promises: a file that differs from torch does not pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.runner import GraphRunner, load_tokenizer
from batch.scoring.session import OpenGraph, TaskSession
from exporter.checks.torch_parity import MAX_DIFFERING_DECISIONS, MAX_TEXTS, verify
from exporter.graph.trace import trace_graph
from schemas.bundle.facts import Verification
from schemas.decision.decide import Calibration
from schemas.errors import ExportError
from schemas.kinds import KINDS
from schemas.kinds.base import OutputSpec
from schemas.kinds.multilabel import MultilabelDecision
from schemas.text.model_text import ModelText, model_text
from schemas.text.tokens import TokenizedText
from tests.label_tasks import KIND
from trainer.checkpoint.reader import Checkpoint
from trainer.model.multitask import MultiTaskModel, TaskPath

RARE = 37
"""A token id that a test gives to one text only."""
PLACES = (0, 4, 7, 11)
"""Where that text may stand among twelve."""


@dataclass
class Exported:
    """A graph with the torch model it came from, which a test may change."""

    model: MultiTaskModel
    path_model: TaskPath
    session: TaskSession
    runner: GraphRunner
    texts: list[TokenizedText]
    labels: tuple[str, ...]

    @property
    def embeddings(self) -> torch.nn.Parameter:
        """(vocabulary, hidden) of the torch model."""
        return self.path_model.get_parameter("encoder.embeddings.word_embeddings.weight")

    def verify(
        self, texts: list[TokenizedText] | None = None, *, threshold: float = 0.5
    ) -> Verification:
        """Compare at one threshold for all labels."""
        decision = MultilabelDecision(
            thresholds=(threshold,) * len(self.labels),
            calibration=Calibration.none(len(self.labels)),
        )
        return verify(
            self.session,
            self.path_model,
            self.runner,
            self.texts if texts is None else texts,
            lambda outputs, texts: KINDS[KIND].decide(outputs, self.labels, decision, texts),
        )


def write_narrative(model: MultiTaskModel, labels: tuple[str, ...], path: Path) -> TaskSession:
    """Write the graph of the narrative task as it is now, and open it."""
    outputs = {"narrative": KINDS[KIND].output(len(labels))}
    onnx.save(trace_graph(model.joint(["narrative"]), outputs).cut("narrative"), path)
    return TaskSession(OpenGraph.open(GraphFile.of_path(path), choose_device("cpu")), outputs)


@pytest.fixture
def exported(checkpoint: Path, tmp_path: Path) -> Exported:
    """The narrative task of the shared checkpoint, exported without metadata."""
    opened = Checkpoint.open(checkpoint)
    about = opened.info.tasks["narrative"]
    path_model = opened.model.path("narrative")
    session = write_narrative(opened.model, about.labels, tmp_path / "narrative.onnx")
    runner = GraphRunner(
        session,
        load_tokenizer(opened.files.tokenizer.read_bytes(), "tokenizer.json"),
        max_tokens=opened.info.max_tokens,
        pad_id=opened.info.pad_id,
    )
    articles, _ = opened.heldout("narrative")
    texts = [
        model_text(article, about.text, max_tokens=opened.info.max_tokens) for article in articles
    ]
    return Exported(opened.model, path_model, session, runner, runner.tokenize(texts), about.labels)


def with_one_rare_token(place: int, count: int = 12) -> list[TokenizedText]:
    """Texts of growing length, one of which has a token that no other has."""
    rng = np.random.default_rng(place)
    texts = []
    for number in range(count):
        ids = rng.integers(RARE + 1, 700, size=5 + 9 * number).astype(np.int32)
        if number == place:
            ids[2] = RARE
        texts.append(TokenizedText(ids, truncated=False))
    return texts


def test_faithful_file_passes(exported: Exported) -> None:
    """What was compared, the largest difference and the bounds are recorded."""
    verification = exported.verify()

    assert verification.texts == min(MAX_TEXTS, len(exported.texts))
    assert verification.shapes >= 5
    assert 0 <= verification.max_logit_difference <= 1e-5
    assert verification.differing_decisions == 0
    assert verification.logit_tolerance == OutputSpec.tolerance
    assert verification.max_differing_decisions == MAX_DIFFERING_DECISIONS


@pytest.mark.parametrize(
    "part", ["head.linear.weight", "head.linear.bias", "head.value.weight", "encoder"]
)
def test_other_weights_do_not_pass(exported: Exported, part: str) -> None:
    """A model that differs in its head, its bias or one matrix of its encoder is refused."""
    with torch.no_grad():
        for name, parameter in exported.path_model.named_parameters():
            if name == part or (part == "encoder" and name.endswith("output.dense.weight")):
                parameter.add_(torch.randn_like(parameter), alpha=3e-3)

    with pytest.raises(ExportError, match=r"narrative\.onnx: an output differs from torch by"):
        exported.verify()


def test_one_token_that_differs_does_not_pass(exported: Exported) -> None:
    """A difference that one text of many shows is enough, wherever that text stands."""
    with torch.no_grad():
        exported.embeddings[RARE].normal_()

    for place in PLACES:
        with pytest.raises(ExportError, match="an output differs"):
            exported.verify(with_one_rare_token(place))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_does_not_pass(exported: Exported, value: float) -> None:
    """A logit that is NaN on one side only is a difference, wherever its text stands."""
    with torch.no_grad():
        exported.embeddings[RARE] = value

    for place in PLACES:
        with pytest.raises(ExportError, match="an output differs"):
            exported.verify(with_one_rare_token(place))


def test_nan_on_both_sides_does_not_pass(exported: Exported, tmp_path: Path) -> None:
    """A model that gives no numbers is not published, though the file agrees with it."""
    with torch.no_grad():
        exported.embeddings[RARE] = float("nan")
    path = tmp_path / "broken.onnx"
    exported.session = write_narrative(exported.model, exported.labels, path)

    for place in PLACES:
        with pytest.raises(ExportError, match="an output differs"):
            exported.verify(with_one_rare_token(place))


def test_differing_decisions_are_counted(exported: Exported, tmp_path: Path) -> None:
    """Differences below the tolerance of logits can still fail by the decisions they change."""
    with torch.no_grad():  # every row then has a logit of about its bias
        for name in ("linear.weight", "linear.bias", "value.weight"):
            exported.path_model.get_parameter(f"head.{name}").zero_()
    exported.model.head("narrative").lexical = None
    path = tmp_path / "narrative.onnx"
    exported.session = write_narrative(exported.model, exported.labels, path)
    with torch.no_grad():
        exported.path_model.get_parameter("head.linear.bias").fill_(-5e-5)

    with pytest.raises(ExportError, match=r"100\.00% of the decisions differ from torch"):
        exported.verify(threshold=0.5)
    assert exported.verify(threshold=0.4).differing_decisions == 0


def test_one_text_is_enough(exported: Exported) -> None:
    """A task with a single held-out row is compared too, in several shapes."""
    verification = exported.verify(exported.texts[:1])

    assert verification.texts == 1
    assert verification.shapes >= 3


def test_many_texts_are_thinned_over_their_lengths(exported: Exported) -> None:
    """Of more texts than are compared, the shortest and the longest are among those compared."""
    rng = np.random.default_rng(0)
    many = [
        TokenizedText(rng.integers(40, 700, size=size).astype(np.int32), truncated=False)
        for size in rng.integers(10, 120, size=MAX_TEXTS * 2)
    ]
    edges = [
        TokenizedText(np.array([2, 50, 3], np.int32), truncated=False),
        TokenizedText(np.full(128, 51, np.int32), truncated=False),
    ]
    assert exported.verify(many + edges).texts == MAX_TEXTS

    for token in (50, 51):
        with torch.no_grad():
            weights = exported.embeddings
            before = weights[token].clone()
            weights[token].normal_()
        only_here = [t for t in many if token not in t.ids] + edges
        with pytest.raises(ExportError, match="an output differs"):
            exported.verify(only_here)
        with torch.no_grad():
            weights[token] = before


def test_empty_text_can_be_compared(exported: Exported) -> None:
    """A text of special tokens only is a text."""
    empty = exported.runner.tokenize([ModelText("", cut=False)])

    assert exported.verify([*empty, *exported.texts[:3]]).texts == 4
