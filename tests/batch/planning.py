"""Plans of small corpora and their pass-through columns, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from batch.corpus.plan import Plan, make_plan
from batch.corpus.reader import ChunkReader
from batch.corpus.tasks import RunTasks
from batch.options import CorpusOptions
from schemas.text.model_text import TextSpec
from tests.label_tasks import KIND

SPEC = TextSpec()


def planned(*corpus: Path, spec: TextSpec = SPEC, gold: str | None = None, **given: Any) -> Plan:
    """The plan of a corpus for one task."""
    tasks = RunTasks({"narrative": KIND}, {} if gold is None else {"narrative": gold})
    return make_plan(options(*corpus, **given), tasks, spec)


def options(*corpus: Path, **given: Any) -> CorpusOptions:
    """Options of a run over these files."""
    return CorpusOptions(tuple(map(str, corpus)), **given)


def kept(*corpus: Path, **given: Any) -> pa.Table:
    """The pass-through columns of all rows, as predictions have them."""
    plan = planned(*corpus, **given)
    reader = ChunkReader(plan, options(*corpus, **given), SPEC, max_tokens=64)
    return pa.concat_tables([reader.read(chunk).kept for chunk in plan.chunks])


def column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values as a column of that type."""
    return pa.array(values, kind)
