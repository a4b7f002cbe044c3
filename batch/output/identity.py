"""Identity of a run: the single definition of what an output depends on.

The same facts name a run in its output folder, its shards, what `merge` may put together, the chunk
that a marker stands for, and the entries of the cache.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from batch.corpus.plan import Chunk, Plan
from batch.engines.versions import engine_versions
from batch.machine.cpu import processor_class
from batch.machine.device import Device, gpu_model
from batch.options import RunOptions
from batch.output.marker import ChunkAddress
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import EngineName, Precision
from schemas.validation import validation_problems

PACKAGES = ("narrascan", "numpy", "pyarrow", "tokenizers")
"""Packages that shape what is written, beside those of the engine."""

RunKey = dict[str, JsonValue]
"""Everything that the output of a run depends on, in an order that counts."""

FINGERPRINT = "fingerprint"
"""Key of what an input contains, which is known after it was hashed."""

SHORT_HASH = 12
"""Hexadecimal digits by which predictions name the bundle that made them."""

LONGEST_VALUE = 60
"""Characters of a value in a message about a difference."""


class _RecordedInput(BaseModel):
    rows: int
    fingerprint: str


_INPUTS = TypeAdapter(dict[str, _RecordedInput])


class ModelIdentity(BaseModel):
    """Everything that the logits of a text depend on, beside its tokens.

    graph_sha256: of the ONNX file, the task's own or the one that tasks share.
    neighbours: the nearest reference texts are among the outputs.
    engine: device, GPU model, processor class, and the versions of what computes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    graph_sha256: str
    tasks: tuple[str, ...]
    precision: Precision
    max_tokens_per_batch: int
    neighbours: bool
    engine: dict[str, JsonValue]

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        tasks: tuple[str, ...],
        device: Device,
        *,
        precision: Precision,
        engine: EngineName,
        max_tokens_per_batch: int,
        neighbours: bool,
    ) -> ModelIdentity:
        """Identity of tasks of a bundle, run by an engine on a device of this machine."""
        graph = bundle.precisions(tasks)[precision]
        return cls(
            graph_sha256=bundle.manifest.files[graph].sha256,
            tasks=tasks,
            precision=precision,
            max_tokens_per_batch=max_tokens_per_batch,
            neighbours=neighbours,
            engine={
                "device": device.kind,
                "gpu": gpu_model(device),
                "machine": platform.machine(),
                "processor": processor_class(),
                **engine_versions(engine),
                **{package: version(package) for package in PACKAGES},
            },
        )

    def digest(self) -> bytes:
        """sha256 over everything, 32 bytes."""
        return hashlib.sha256(self.model_dump_json().encode()).digest()


@dataclass(frozen=True)
class InputFacts:
    """One input of a run. fingerprint: of its content."""

    file: str
    rows: int
    fingerprint: str


@dataclass(frozen=True)
class RunIdentity:
    """Key of a run, in which a resumed run, every shard and a merge must agree.

    inputs: in the order of the key, which counts. sha256: digest of the key.
    """

    key: RunKey
    inputs: tuple[InputFacts, ...]
    sha256: str

    @classmethod
    def of(
        cls,
        options: RunOptions,
        plan: Plan,
        model: ModelIdentity,
        bundle: Bundle,
        fingerprints: Mapping[str, str],
    ) -> RunIdentity:
        """Identity of scoring a plan with a model; `fingerprints` of its files, by name.

        Without them, it is what is known before the files are hashed.
        """
        return cls.of_key(
            {
                "task": ",".join(plan.tasks.names),
                "bundle_sha256": bundle.sha256,
                "options": {
                    **options.corpus.shaping(),
                    "probabilities": options.output.probabilities,
                    "gold_column": plan.tasks.recorded_gold(),
                    "precision": model.precision,
                    "max_tokens_per_batch": model.max_tokens_per_batch,
                    "neighbours": model.neighbours,
                },
                "inputs": {
                    (name := file.source.name): {
                        "rows": file.rows,
                        FINGERPRINT: fingerprints.get(name, ""),
                    }
                    for file in plan.files
                },
                "engine": model.engine,
            }
        )

    @classmethod
    def of_key(cls, key: RunKey) -> RunIdentity:
        """Identity that a recorded key names. Raises ValueError if it does not name its inputs."""
        try:
            inputs = _INPUTS.validate_python(key.get("inputs"))
        except ValidationError as error:
            raise ValueError(validation_problems(error, "inputs")) from error
        facts = [InputFacts(file, one.rows, one.fingerprint) for file, one in inputs.items()]
        digest = hashlib.sha256(json.dumps(key, ensure_ascii=True).encode()).hexdigest()
        return cls(key, tuple(facts), digest)

    @property
    def model(self) -> str:
        """Short hash of the bundle, as the column `model` has it."""
        return str(self.key["bundle_sha256"])[:SHORT_HASH]

    def address(self, chunk: Chunk) -> ChunkAddress:
        """What the marker of a chunk of this run must say."""
        return ChunkAddress(
            run_sha256=self.sha256,
            index=chunk.index,
            source_file=self.inputs[chunk.file].file,
            source_fingerprint=self.inputs[chunk.file].fingerprint,
            first_row=chunk.first_row,
            rows=chunk.rows,
        )


def without_fingerprints(key: object) -> object:
    """A key, perhaps a damaged one, without the content of its inputs."""
    if not isinstance(key, Mapping):
        return key
    return {name: without_fingerprints(value) for name, value in key.items() if name != FINGERPRINT}


def differences(recorded: object, current: object, name: str = "") -> Iterator[str]:
    """Differences of two keys, one line each; equal entries in another order are one too."""
    if isinstance(recorded, Mapping) and isinstance(current, Mapping):
        for key in dict.fromkeys([*recorded, *current]):
            path = f"{name}.{key}" if name else key
            yield from differences(recorded.get(key), current.get(key), path)
        if set(recorded) == set(current) and list(recorded) != list(current):
            yield f"{name}: the order was {_short(list(recorded))}, is {_short(list(current))}"
    elif recorded != current:
        yield f"{name}: was {_short(recorded)}, is {_short(current)}"


def _short(value: object) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
