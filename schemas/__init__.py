"""The shared vocabulary: what crosses between trainer, exporter and batch, and nothing else.

May import the standard library, numpy, pyarrow and pydantic. Everything that two rooms must agree
on lives here once: how an article becomes model text, how token ids are cut, what a logit means,
what a file says of itself.
"""
