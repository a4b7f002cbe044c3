"""Forward and backward passes over the rows of a step, as large as memory has room for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from schemas.kinds.base import OutputSpec
from schemas.text.tokens import TokenizedText
from trainer.data.batches import passes, pieces_per_pass
from trainer.evaluation.held_out import to_batch
from trainer.model.windows import outputs_of_texts

LossOf = Callable[[Sequence[Tensor], slice], Sequence[Tensor]]
"""From the outputs of some texts for each task, (texts, ...), and which of the step they are, to
their share of the loss of each task."""


class Gradients:
    """Adds the gradients of a step to the parameters of a model.

    max_tokens: that the model reads at once.
    """

    def __init__(
        self,
        model: nn.Module,
        accelerator: Accelerator,
        *,
        pad_id: int,
        max_tokens: int,
        bf16: bool,
    ) -> None:
        self._model, self._accelerator = model, accelerator
        self._pad_id, self._max_tokens, self._bf16 = pad_id, max_tokens, bf16

    def add(
        self, outputs: Mapping[str, OutputSpec], texts: Sequence[TokenizedText], loss_of: LossOf
    ) -> Tensor:
        """Run the texts through the model and back, for the sum of the losses of some tasks.

        outputs: of each task. Returns the loss of each task, (tasks,). Gradients are averaged over
        processes, once for all passes.
        """
        total = torch.zeros(len(outputs), device=self._accelerator.device)
        lengths = [[len(piece.ids) for piece in text.pieces] for text in texts]
        limit = pieces_per_pass(lengths, self._device_type, max_tokens=self._max_tokens)
        parts = passes(lengths, self._device_type, max_tokens=self._max_tokens)
        for part in parts:
            is_last = part is parts[-1]
            if sum(map(len, lengths[part])) > limit:
                total += self._add_long_text(outputs, texts, part, loss_of, limit, is_last)
                continue
            with self._synchronized(is_last):
                pieces = [piece for text in texts[part] for piece in text.pieces]
                of_pieces = self._run(tuple(outputs), pieces)
                losses = loss_of(_of_texts(of_pieces, texts[part], outputs), part)
                self._accelerator.backward(torch.stack(list(losses)).sum())
            total += torch.stack([loss.detach() for loss in losses])
        return total

    def _add_long_text(
        self,
        outputs: Mapping[str, OutputSpec],
        texts: Sequence[TokenizedText],
        part: slice,
        loss_of: LossOf,
        limit: int,
        is_last: bool,
    ) -> Tensor:
        """Run a text with more windows than one pass has room for, some of them at a time.

        Outputs come first, without the activations; the gradient of the loss by each of them is
        then taken back through the model, in a second pass that draws the same random numbers.

        Source: Gao, Zhang, Han, Callan (2021), Scaling Deep Contrastive Learning Batch Size under
        Memory Limited Setup, RepL4NLP (gradient cache).
        """
        (text,) = texts[part]
        pieces, tasks = text.pieces, tuple(outputs)
        groups = [pieces[first : first + limit] for first in range(0, len(pieces), limit)]
        devices = [self._accelerator.device] if self._device_type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            of_groups = [self._run(tasks, group) for group in groups]
        of_pieces = [
            torch.cat([one.float() for one in of_task]).requires_grad_()
            for of_task in zip(*of_groups, strict=True)
        ]
        losses = loss_of(_of_texts(of_pieces, [text], outputs), part)
        gradients = torch.autograd.grad(torch.stack(list(losses)).sum(), of_pieces)
        by_group = zip(*(torch.split(one, limit) for one in gradients), strict=True)
        for group, of_group in zip(groups, by_group, strict=True):
            with self._synchronized(is_last and group is groups[-1]):
                again = zip(self._run(tasks, group), of_group, strict=True)
                self._accelerator.backward(
                    torch.stack([(one.float() * gradient).sum() for one, gradient in again]).sum()
                )
        return torch.stack([loss.detach() for loss in losses])

    def _run(self, tasks: tuple[str, ...], pieces: Sequence[TokenizedText]) -> tuple[Tensor, ...]:
        """Outputs of pieces of texts for each task, (pieces, ...)."""
        device = self._accelerator.device
        input_ids, attention_mask = to_batch(
            pieces, self._pad_id, device, max_tokens=self._max_tokens
        )
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._bf16):
            outputs: tuple[Tensor, ...] = self._model(input_ids, attention_mask, tasks)
        return outputs

    def _synchronized(self, is_last: bool) -> AbstractContextManager[None]:
        """Where processes exchange gradients: after the last pass of a step only."""
        if is_last:
            return nullcontext()
        without: AbstractContextManager[None] = self._accelerator.no_sync(self._model)
        return without

    @property
    def _device_type(self) -> str:
        return str(self._accelerator.device.type)


def _of_texts(
    of_pieces: Sequence[Tensor], texts: Sequence[TokenizedText], outputs: Mapping[str, OutputSpec]
) -> list[Tensor]:
    """Outputs of texts for each task from those of their pieces."""
    return [
        outputs_of_texts(one, texts, output)
        for one, output in zip(of_pieces, outputs.values(), strict=True)
    ]
