"""The systems: what each trains, on what, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

from bench.paths import ROOT
from bench.systems import measures, tables
from bench.systems.measures import Counter
from bench.systems.protocols import Folds, Protocol, Split
from bench.systems.tables import Tables

CONFIGS = ROOT / "configs"


@dataclass(frozen=True)
class Result:
    """What is reported of a task under a name of its own.

    claims: numbers of the founding document or the paper, by metric; they are not from the same
    rows unless `note` says so. tried: changes of the config that were tried, and what each gave.
    """

    name: str
    task: str
    counter: Counter
    claims: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    tried: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """A config with its data and the way it is measured."""

    title: str
    config: str
    read: Callable[[Path], Tables]
    protocol: Protocol
    results: tuple[Result, ...]
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of its folder, that of its first result."""
        return self.results[0].name

    @property
    def config_path(self) -> Path:
        """The config file."""
        return CONFIGS / self.config


SYSTEMS: tuple[System, ...] = (
    System(
        "Narratives and entity framing of English news, jointly",
        "semeval-en.toml",
        partial(tables.semeval, languages=("EN",)),
        Folds(group="article"),
        (
            Result(
                "narratives-en",
                "narratives",
                measures.narratives,
                {
                    "samples_f1_coarse": ".498 (test, encoders)",
                    "samples_f1_fine": ".373 (test, encoders)",
                },
                'Always "Other" gets .27. The published numbers are of the 101 test articles.',
            ),
            Result(
                "framing-en",
                "roles",
                measures.roles,
                {"exact_match": ".145 (founding document), .274 (public system, leaky split)"},
            ),
        ),
    ),
    System(
        "Sentiment of film reviews, 500 of them",
        "sentiment.toml",
        tables.sentiment,
        Split("test", rows=500),
        (
            Result(
                "sentiment-500", "sentiment", measures.classes(), {"accuracy": ".893 (BERT-base)"}
            ),
        ),
    ),
    System(
        "Sentiment of film reviews, 10,000 of them",
        "sentiment.toml",
        tables.sentiment,
        Split("test", runs=1),
        (Result("sentiment-10k", "sentiment", measures.classes()),),
    ),
    System(
        "Sentiment of sentences of film reviews",
        "polarity.toml",
        tables.polarity,
        Folds(),
        (Result("sentiment-rt", "polarity", measures.classes()),),
    ),
    System(
        "Named entities of news sentences, all 14,041",
        "entities.toml",
        tables.entities,
        Split("valid", runs=1),
        (Result("ner-all", "entities", measures.spans, {"span_f1": ".901 (29 M, dev)"}),),
    ),
    System(
        "Named entities of news sentences, 500 of them",
        "entities.toml",
        tables.entities,
        Split("valid", rows=500),
        (Result("ner-500", "entities", measures.spans, {"token_accuracy": ".9195 (BERT-base)"}),),
    ),
    System(
        "Question classes, six of them, by fine-tuning",
        "trec6.toml",
        tables.questions,
        Folds(),
        (
            Result(
                "finetune-trec6",
                "question",
                measures.classes(),
                {"accuracy": ".962 (electra-small), .974 (BERT-base), on 500 test questions"},
            ),
        ),
    ),
    System(
        "Question classes, fifty of them, by fine-tuning",
        "trec50.toml",
        tables.questions,
        Folds(),
        (
            Result(
                "finetune-trec50",
                "question",
                measures.classes("labels_fine"),
                {"accuracy": ".898 (electra-small), .926 (BERT-base), on 500 test questions"},
            ),
        ),
    ),
    System(
        "Bias of single news sentences",
        "babe.toml",
        tables.bias,
        Folds(),
        (Result("babe", "bias", measures.classes(), {"macro_f1": ".777 (66 M), .814 (125 M)"}),),
    ),
)

BY_RESULT: Mapping[str, System] = MappingProxyType(
    {result.name: system for system in SYSTEMS for result in system.results}
)
"""Systems by the names of their results."""
