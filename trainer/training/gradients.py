"""Forward and backward passes over the rows of a step, as large as memory has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from schemas.kinds.base import OutputSpec
from schemas.text.tokens import TokenizedText
from trainer.data.batches import passes, pieces_per_pass
from trainer.evaluation.held_out import to_batch
from trainer.model.windows import outputs_of_texts

LossOf = Callable[[Tensor, slice], Tensor]
"""From the outputs of some texts, (texts, ...), and which of the step they are, to their share of
its loss."""


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
        self, task: str, output: OutputSpec, texts: Sequence[TokenizedText], loss_of: LossOf
    ) -> Tensor:
        """Run the texts through the model and back; returns their loss, a scalar.

        Gradients are averaged over processes, once for all passes.
        """
        total = torch.zeros((), device=self._accelerator.device)
        lengths = [[len(piece.ids) for piece in text.pieces] for text in texts]
        limit = pieces_per_pass(lengths, self._device_type, max_tokens=self._max_tokens)
        parts = passes(lengths, self._device_type, max_tokens=self._max_tokens)
        for part in parts:
            is_last = part is parts[-1]
            if sum(map(len, lengths[part])) > limit:
                total += self._add_long_text(task, output, texts, part, loss_of, limit, is_last)
                continue
            with self._synchronized(is_last):
                outputs = self._run(task, [piece for text in texts[part] for piece in text.pieces])
                loss = loss_of(outputs_of_texts(outputs, texts[part], output), part)
                self._accelerator.backward(loss)
            total += loss.detach()
        return total

    def _add_long_text(
        self,
        task: str,
        output: OutputSpec,
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
        pieces = text.pieces
        groups = [pieces[first : first + limit] for first in range(0, len(pieces), limit)]
        devices = [self._accelerator.device] if self._device_type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            outputs = torch.cat([self._run(task, group).float() for group in groups])
        outputs.requires_grad_()
        loss = loss_of(outputs_of_texts(outputs, [text], output), part)
        (by_output,) = torch.autograd.grad(loss, outputs)
        for group, gradient in zip(groups, torch.split(by_output, limit), strict=True):
            with self._synchronized(is_last and group is groups[-1]):
                again = self._run(task, group).float()
                self._accelerator.backward((again * gradient).sum())
        return loss.detach()

    def _run(self, task: str, pieces: Sequence[TokenizedText]) -> Tensor:
        """Outputs of pieces of texts, (pieces, ...)."""
        device = self._accelerator.device
        input_ids, attention_mask = to_batch(
            pieces, self._pad_id, device, max_tokens=self._max_tokens
        )
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._bf16):
            outputs: Tensor = self._model(input_ids, attention_mask, task)
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
