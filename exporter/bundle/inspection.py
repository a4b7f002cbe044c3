"""`export-classifier inspect`: everything that a file or a bundle says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict

from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.session import OpenGraph
from batch.scoring.signature import Signature, read_signature
from exporter.bundle.card import model_card
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata, metadata_model
from schemas.errors import BundleError, listing
from schemas.io.files import FileFacts
from schemas.kinds.by_kind import ByKind
from schemas.markdown import markdown_table, markdown_text
from schemas.tasks.task import TaskName

if TYPE_CHECKING:
    AnyMetadata = ArtefactMetadata
else:
    AnyMetadata = Annotated[ArtefactMetadata, ByKind(metadata_model)]


class BundleReport(BaseModel):
    """What there is to know of a bundle without scoring with it."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    """Of `bundle.json`, and through it of every file."""
    signature: Signature | None
    """As it stands there; `verify --require-signature` checks it."""
    files: dict[str, FileFacts]
    tasks: dict[TaskName, AnyMetadata]

    @classmethod
    def of(cls, folder: Path) -> BundleReport:
        """Read a bundle. Raises BundleError if it is not a bundle, or a file was changed."""
        bundle = Bundle.open(folder)
        bundle.check_all()
        return cls(
            sha256=bundle.sha256,
            signature=read_signature(bundle.files),
            files=bundle.manifest.files,
            tasks={
                task: metadata_of(GraphFile.of_bundle(bundle, (task,), "fp32"), task)
                for task in bundle.manifest.tasks
            },
        )

    def text(self) -> str:
        """The same for people: the files, and the model card."""
        signed = (
            f"by key {markdown_text(self.signature.key_id)}, not checked"
            if self.signature
            else "no"
        )
        files = [[name, f"{facts.bytes:,}", facts.sha256] for name, facts in self.files.items()]
        return "\n".join(
            [
                f"# Bundle {self.sha256}",
                "",
                f"Signed: {signed}.",
                "",
                markdown_table(["file", "bytes", "sha256"], files),
                model_card(self.tasks),
            ]
        )


def read_metadata(graph: GraphFile) -> dict[str, ArtefactMetadata]:
    """What an ONNX file says of its tasks. Raises BundleError for a file that says nothing."""
    return OpenGraph.open(graph, choose_device("cpu")).metadata()


def metadata_of(graph: GraphFile, task: str) -> ArtefactMetadata:
    """What an ONNX file says of a task. Raises BundleError if it says nothing of that one."""
    described = read_metadata(graph)
    if task not in described:
        raise BundleError(
            f"{graph.label}: is listed for task {task!r}, and its metadata is that of task "
            f"{listing(described)}",
            hint="export the checkpoint again",
        )
    return described[task]
