"""Classical baselines: TF-IDF with one-vs-rest classifiers of scikit-learn.

They give pseudo-probabilities, so that thresholds, decisions and scores come from the same code in
`schemas` as those of the neural models.

Sources:
    Joachims (1998), Text Categorization with Support Vector Machines, ECML.
    Freund, Schapire (1997), A Decision-Theoretic Generalization of On-Line Learning and an
    Application to Boosting, Journal of Computer and System Sciences 55(1).
    Yang, Pedersen (1997), A Comparative Study on Feature Selection in Text Categorization, ICML:
    chi-squared for the features that a label's boosting looks at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.ensemble import AdaBoostClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from schemas.arrays import BoolArray, Float32Array

BaselineName = Literal["tfidf-svm", "tfidf-adaboost"]

BOOSTING_ROUNDS = 50
FEATURES_A_LABEL = 1000
"""Words that the stumps of one label may ask for."""


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline that has seen its training texts.

    words: from texts to TF-IDF features. model: from those to a margin a label. seconds: fitting.
    """

    words: TfidfVectorizer
    model: OneVsRestClassifier
    seconds: float

    def score(self, texts: Sequence[str]) -> Float32Array:
        """Score at least one text, (rows, labels) float32 in [0, 1], in the order of the texts.

        Sigmoids of the margins: they rank like probabilities, but are not calibrated.
        """
        margins = self.model.decision_function(self.words.transform(texts))  # (rows, labels)
        return np.asarray(1 / (1 + np.exp(-margins)), dtype=np.float32)


def fit(
    name: BaselineName, texts: Sequence[str], gold: BoolArray, *, seed: int = 0
) -> FittedBaseline:
    """Fit a baseline on training texts.

    gold: (rows, labels) bool, of two labels or more. seed: of everything random.
    Raises ValueError for a label that no row has, or that all have.
    """
    positives = gold.sum(axis=0)
    one_sided = np.flatnonzero((positives == 0) | (positives == len(gold)))
    if len(one_sided):
        raise ValueError(f"label columns {one_sided.tolist()}: expected rows with and without")
    started = time.perf_counter()
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, dtype=np.float32)
    features = words.fit_transform(texts)  # (rows, words), sparse
    classifier = _make_classifier(name, words=features.shape[1], seed=seed)
    model = OneVsRestClassifier(classifier).fit(features, gold.astype(np.int8))
    return FittedBaseline(words, model, time.perf_counter() - started)


def _make_classifier(name: BaselineName, *, words: int, seed: int) -> LinearSVC | Pipeline:
    """What tells one label from the rest. words: features there are."""
    match name:
        case "tfidf-svm":
            return LinearSVC(random_state=seed)
        case "tfidf-adaboost":
            chosen = SelectKBest(chi2, k=min(FEATURES_A_LABEL, words))
            # The default learner is a decision stump.
            boosted = AdaBoostClassifier(n_estimators=BOOSTING_ROUNDS, random_state=seed)
            return make_pipeline(chosen, boosted)
