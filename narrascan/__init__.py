"""The public Python API: score texts with a bundle, as `batch-classify` would.

Everything else in this distribution may change between versions.

    >>> from narrascan import Scorer
    >>> scorer = Scorer("artifacts/bundle", task="narrative")
    >>> scorer.score(["Aid is wasted by officials."])[0].labels
"""

from narrascan.scorer import Prediction, Scorer
from schemas.errors import NarrascanError
from schemas.text.model_text import Article

__all__ = ["Article", "NarrascanError", "Prediction", "Scorer"]
