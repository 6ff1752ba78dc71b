"""The plain model."""

from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.none.settings import NoRegularizerSettings


class NoRegularizer(Regularizer[NoRegularizerSettings]):
    """Train on the task's own loss alone: the baseline of every comparison.

    Example:
        >>> from regathlon_core import NoRegularizer
        >>> NoRegularizer().settings.name
        'none'
    """

    Settings = NoRegularizerSettings
