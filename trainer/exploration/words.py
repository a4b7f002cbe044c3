"""Words of a corpus: lengths of texts, how domains differ, and topics."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial.distance import jensenshannon
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.feature_extraction.text import CountVectorizer
from tokenizers import Tokenizer

from schemas.arrays import BoolArray
from trainer.evaluation.pictures import picture_text
from trainer.exploration.corpus import Corpus
from trainer.exploration.section import Picture, Section, Table, percent_of

MOST_DOMAINS = 12
TOP_WORDS = 12
MOST_WORDS = 20_000
FEW_TEXTS = 100
"""Texts below which no word is left out for its frequency."""
MOST_TEXTS = 0.5
"""Share of the texts of a language above which a word is left out."""
WORD = r"[^\s\d_!-/:-@\[-`{-~\u00a1-\u00bf\u0964\u0965\u2000-\u206f\u3000-\u303f]{2,}"
"""A word: two or more characters that are no space, digit or punctuation. Vowel signs of Indic
scripts count, which `\\w` does not match."""
LIMITS = (128, 256, 512)
"""Numbers of tokens that encoders commonly read."""


class Words:
    """Counts of the words of each text.

    Words have two or more characters, none of them digits, and occur in at least two texts. What
    most texts of a language have is left out, such as articles and prepositions: it says nothing of
    any of them. names: (words,). counts: (texts, words).
    """

    def __init__(self, corpus: Corpus) -> None:
        vectorizer = CountVectorizer(
            token_pattern=WORD,
            min_df=1 if len(corpus) < FEW_TEXTS else 2,
            max_features=MOST_WORDS,
        )
        self.counts: csr_matrix = csr_matrix((len(corpus), 0))
        self.names = np.zeros(0, np.str_)
        try:
            counts: csr_matrix = vectorizer.fit_transform(corpus.texts)
        except ValueError:  # no word is left, as in a corpus of numbers
            return
        columns = np.flatnonzero(~_is_common(corpus, counts))
        self.counts = counts[:, columns]
        self.names = vectorizer.get_feature_names_out()[columns]


def _is_common(corpus: Corpus, counts: csr_matrix) -> BoolArray:
    """Words that most texts of a language have, (words,) bool."""
    languages = np.array(corpus.languages or [""] * len(corpus))
    common = np.zeros(counts.shape[1], np.bool_)
    for language in np.unique(languages):
        of_language = counts[np.flatnonzero(languages == language)]
        texts = of_language.shape[0]
        most = MOST_TEXTS * texts if texts >= FEW_TEXTS else texts
        common |= np.asarray((of_language > 0).sum(axis=0)).ravel() > most
    return common


def lengths(corpus: Corpus, tokenizer: Tokenizer) -> Section:
    """Tokens of the texts."""
    from matplotlib import pyplot

    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokens = np.array([len(one.ids) for one in tokenizer.encode_batch(list(corpus.texts))])
    beyond = [
        [f"{limit:,}", percent_of(int((tokens > limit).sum()), len(tokens))] for limit in LIMITS
    ]
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    last = max(float(np.quantile(tokens, 0.99)), 2.0)
    axes.hist(np.clip(tokens, None, last), bins=50, color="C0")
    for limit in LIMITS:
        if limit < last:
            axes.axvline(limit, color="0.4", linewidth=1, linestyle="--")
    axes.set(xlabel="tokens (the longest hundredth in the last bar)", ylabel="rows")
    axes.spines[["top", "right"]].set_visible(False)
    low, middle, high = (int(value) for value in np.quantile(tokens, [0.05, 0.5, 0.95]))
    return Section(
        "Lengths",
        f"Half of the texts have at most {middle:,} tokens, and nine of ten between {low:,} and "
        f"{high:,}. What is behind encoder.max_tokens is not read, unless a task has windows.",
        [Table(["max_tokens", "texts that are longer"], beyond)],
        [Picture.of(figure, "Texts by number of tokens")],
    )


def domain_distances(corpus: Corpus, words: Words) -> Section | None:
    """How far apart the words of the domains are; None with fewer than two domains.

    Source: Lin (1991), Divergence Measures Based on the Shannon Entropy, IEEE Transactions on
    Information Theory 37(1): the root of the divergence, to base 2.
    """
    counted = {
        domain: np.asarray(words.counts[corpus.rows_of(domain)].sum(axis=0), np.float64).ravel()
        for domain in corpus.domains_by_frequency(MOST_DOMAINS)
    }
    domains = [domain for domain, of_domain in counted.items() if of_domain.any()]
    if len(domains) < 2:
        return None
    sums = np.stack([counted[domain] for domain in domains])  # (domains, words)
    distances = np.array([[jensenshannon(one, other, base=2) for other in sums] for one in sums])
    rest = (sums.sum(axis=0) - sums + 1) / (sums.sum() - sums.sum(axis=1, keepdims=True) + 1)
    typical = np.log((sums + 1) / (sums.sum(axis=1, keepdims=True) + 1) / rest) * np.sqrt(sums)
    rows = [
        [domain, f"{len(corpus.rows_of(domain)):,}", ", ".join(_top(words, typical[number]))]
        for number, domain in enumerate(domains)
    ]
    return Section(
        "Words of the domains",
        "Distance of the words of two domains (Jensen-Shannon, base 2), from 0 for the same words "
        "in the same shares to 1 for none in common, and words that a domain has more often than "
        "the others.",
        [
            Table(["domain", "rows", "typical words"], rows),
            Table(
                ["distance", *domains],
                [
                    [domain, *(f"{value:.3f}" for value in of_domain)]
                    for domain, of_domain in zip(domains, distances, strict=True)
                ],
            ),
        ],
        [_distance_picture(distances, domains)],
    )


def _distance_picture(distances: np.ndarray, domains: list[str]) -> Picture:
    from matplotlib import pyplot

    shown, size = [picture_text(name) for name in domains], 2.0 + 0.5 * len(domains)
    figure, axes = pyplot.subplots(figsize=(size + 1.5, size), layout="constrained")
    axes.imshow(distances, cmap="Blues", vmin=0, vmax=1)
    for row, of_row in enumerate(distances):
        for column, value in enumerate(of_row):
            color = "white" if value > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(domains)), shown, rotation=90)
    axes.set_yticks(range(len(domains)), shown)
    return Picture.of(figure, "Distance of the words of two domains")


def topics(corpus: Corpus, words: Words, number: int, *, seed: int = 0) -> Section | None:
    """Topics that words fall into; None where there are too few texts.

    Source: Blei, Ng, Jordan (2003), Latent Dirichlet Allocation, JMLR 3.
    """
    if len(corpus) < 2 * number or len(words.names) < number:
        return None
    model = LatentDirichletAllocation(
        number, learning_method="online", max_iter=5, random_state=seed
    )
    of_texts = model.fit_transform(words.counts)  # (texts, topics)
    shares = of_texts.mean(axis=0)
    domains = corpus.domains_by_frequency(MOST_DOMAINS)
    domains = domains if len(domains) > 1 else []
    by_domain = {domain: of_texts[corpus.rows_of(domain)].mean(axis=0) for domain in domains}
    rows = [
        [
            ", ".join(_top(words, model.components_[topic])),
            f"{100 * shares[topic]:.1f} %",
            *(f"{100 * by_domain[domain][topic]:.1f} %" for domain in domains),
        ]
        for topic in np.argsort(-shares)
    ]
    return Section(
        "Topics",
        f"{number} groups of words that occur in the same texts (latent Dirichlet allocation), "
        "with their share of all texts and of each domain. Words of most texts of a language are "
        "left out.",
        [Table(["words", "all", *domains], rows)],
    )


def _top(words: Words, scores: np.ndarray) -> list[str]:
    return [words.names[place] for place in np.argsort(-scores)[:TOP_WORDS]]
