"""DropMessage, attached to a model of graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.functional import dropout
from regathlon_core.passes import PassRole, current_role
from regathlon_core.regularizer import Regularizer
from regathlon_core.task import Batch, Task
from regathlon_graphs.pyg import MessagePassing
from regathlon_graphs.regularizers.drop_message.settings import DropMessageSettings


class DropMessage(Regularizer[DropMessageSettings]):
    """Drop entries of the messages between nodes in every training step, and scale the others up.

    The models of this package are told by an attribute of the batch's graphs; layers of torch-geometric, of any model, by
    their own hooks.

    Source: Fang et al.: DropMessage: Unifying Random Dropping for Graph Neural Networks, AAAI 2023, algorithm 1.
    Reference code: https://github.com/zjunet/DropMessage.

    Example:
        >>> DropMessage(p=0.3).settings.p
        0.3
    """

    Settings = DropMessageSettings

    def __init__(self, settings: DropMessageSettings | None = None, /, **keywords: object) -> None:
        super().__init__(settings, **keywords)
        self._hooks: list[Any] = []
        self._generator: torch.Generator | None = None

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        """Hook the layers of torch-geometric."""
        for module in model.modules():
            if isinstance(module, MessagePassing):
                self._hooks.append(module.register_message_forward_hook(self._after_message))

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the batch with graphs that say what becomes of their messages."""
        self._generator = generator
        if self.settings.p == 0:
            return batch
        # Set on a copy: evaluation sees graphs without it.
        graph = batch.inputs.__copy__()
        graph.message_dropout = self._drop
        return batch.replace(inputs=graph)

    def detach(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._generator = None

    def _drop(self, messages: Tensor) -> Tensor:
        if current_role() in (PassRole.PROBE, PassRole.ATTRIBUTION):
            return messages
        return dropout(messages, self.settings.p, generator=self._generator)

    def _after_message(self, module: nn.Module, inputs: Any, messages: Tensor) -> Tensor:
        return self._drop(messages) if module.training and self.settings.p else messages
