"""Classical baselines: TF-IDF with one-vs-rest classifiers of scikit-learn.

They return pseudo-probabilities, so that thresholds, decisions and scores are computed by the same
code in `schemas` as for the neural models.

Sources:
    Joachims (1998), Text Categorization with Support Vector Machines, ECML.
    Freund, Schapire (1997), A Decision-Theoretic Generalization of On-Line Learning and an
    Application to Boosting, Journal of Computer and System Sciences 55(1).
    Yang, Pedersen (1997), A Comparative Study on Feature Selection in Text Categorization, ICML:
    chi-squared selection of the features for the boosting of a label.
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
FEATURES_PER_LABEL = 1000
"""Words that the decision stumps of one label may use."""


@dataclass(frozen=True)
class FittedBaseline:
    """A fitted baseline.

    vectorizer: from texts to TF-IDF features. model: from features to a margin per label. seconds:
    time of the fit.
    """

    vectorizer: TfidfVectorizer
    model: OneVsRestClassifier
    seconds: float

    def score(self, texts: Sequence[str]) -> Float32Array:
        """Sigmoids of the margins of at least one text, (rows, labels) float32 in [0, 1].

        They rank like probabilities, but are not calibrated.
        """
        margins = self.model.decision_function(self.vectorizer.transform(texts))  # (rows, labels)
        return np.asarray(1 / (1 + np.exp(-margins)), dtype=np.float32)


def fit(
    name: BaselineName, texts: Sequence[str], gold: BoolArray, *, seed: int = 0, pairs: bool = False
) -> FittedBaseline:
    """Fit a baseline on training texts.

    gold: (rows, labels) bool, with at least two labels. seed: of all random choices. pairs: take
    pairs of neighbouring words beside words, and those of a single text, too.
    Raises ValueError for a label that no row has, or that all rows have.
    """
    positives = gold.sum(axis=0)
    constant = np.flatnonzero((positives == 0) | (positives == len(gold)))
    if len(constant):
        raise ValueError(
            f"label columns {constant.tolist()}: expected rows with and without the label"
        )
    started = time.perf_counter()
    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        min_df=1 if pairs else 2,
        ngram_range=(1, 2 if pairs else 1),
        dtype=np.float32,
    )
    features = vectorizer.fit_transform(texts)  # (rows, words), sparse
    classifier = _make_classifier(name, features=features.shape[1], seed=seed)
    model = OneVsRestClassifier(classifier).fit(features, gold.astype(np.int8))
    return FittedBaseline(vectorizer, model, time.perf_counter() - started)


def _make_classifier(name: BaselineName, *, features: int, seed: int) -> LinearSVC | Pipeline:
    """The binary classifier of a label. features: number of TF-IDF features."""
    match name:
        case "tfidf-svm":
            return LinearSVC(random_state=seed)
        case "tfidf-adaboost":
            selection = SelectKBest(chi2, k=min(FEATURES_PER_LABEL, features))
            # The default learner is a decision stump.
            boosting = AdaBoostClassifier(n_estimators=BOOSTING_ROUNDS, random_state=seed)
            return make_pipeline(selection, boosting)
