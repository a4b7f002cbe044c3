"""What a model card promises of names from outside."""

from pathlib import Path

from batch.engines.graph_file import GraphFile
from exporter.bundle.card import model_card
from exporter.bundle.inspection import read_metadata

EVIL = "<img src=x onerror=alert(1)> | [a](javascript:x) `b`\n# forged\x1b[2J"


def test_names_stay_text_in_a_card(bundle: Path) -> None:
    """Labels, encoder and loss with markup make no HTML, no link, no heading and no cell."""
    facts = read_metadata(GraphFile.of_path(bundle / "narrative.onnx"))["narrative"]
    labels = tuple(f"{EVIL} {number}" for number in range(len(facts.labels)))
    evil = facts.model_copy(
        update={
            "labels": labels,
            "encoder": facts.encoder.model_copy(update={"source": EVIL, "model_type": EVIL}),
            "training": facts.training.model_copy(update={"loss": EVIL, "git_commit": EVIL}),
        }
    )
    card, plain = (
        model_card({"narrative": one}, shared={name: ["narrative"]})
        for one, name in ((evil, EVIL), (facts, "shared.onnx"))
    )
    code = card.split("\n", 3)[2]

    assert len(card.splitlines()) == len(plain.splitlines())
    assert "\x1b" not in card
    assert "# forged" not in [line[:8] for line in card.splitlines()]
    assert r"\<img src=x onerror=alert(1)> \| \[a\](javascript:x) \`b\`" in card
    assert "``<img" in code or "`` <img" in code
