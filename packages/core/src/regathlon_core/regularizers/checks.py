"""Range checks that settings share; each raises a ``UserError`` that names the regularizer and the field."""

from __future__ import annotations

import math
from collections.abc import Sequence

from regathlon_core.errors import UserError, unknown
from regathlon_core.settings import RegularizerSettings


def check_number(
    settings: RegularizerSettings,
    field: str,
    low: float,
    high: float = math.inf,
    *,
    above_low: bool = False,
    below_high: bool = False,
) -> None:
    """Refuse a field that is no finite number between ``low`` and ``high``.

    Args:
        settings: Whose field.
        field: Its name.
        low: Smallest value.
        high: Largest value.
        above_low: Whether ``low`` itself is refused.
        below_high: Whether ``high`` itself is refused.

    Raises:
        UserError: The value is out of the range.
    """
    value = getattr(settings, field)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if (
        number
        and low <= value <= high
        and not (above_low and value == low)
        and not (below_high and value == high)
    ):
        return
    least = f"above {low:g}" if above_low else f"at least {low:g}"
    most = "" if high == math.inf else f" and {'below' if below_high else 'at most'} {high:g}"
    raise UserError(f"{settings.name}: {field} must be a number {least}{most}, not {value!r}.")


def check_count(settings: RegularizerSettings, field: str, low: int = 1) -> None:
    """Refuse a field that is no whole number of at least ``low``."""
    value = getattr(settings, field)
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise UserError(f"{settings.name}: {field} must be a whole number of at least {low}, not {value!r}.")


def check_interval(settings: RegularizerSettings, field: str, low: float, high: float) -> None:
    """Refuse a field that is no pair (smallest, largest) with low < smallest <= largest <= high."""
    value = getattr(settings, field)
    if len(value) != 2 or not low < value[0] <= value[1] <= high or not math.isfinite(value[1]):
        bound = "" if high == math.inf else f", at most {high:g}"
        raise UserError(
            f"{settings.name}: {field} must be a smallest and a largest number, above {low:g}{bound}, "
            f"not {value!r}."
        )


def check_choice(settings: RegularizerSettings, field: str, choices: Sequence[str]) -> None:
    """Refuse a field that is none of the choices."""
    value = getattr(settings, field)
    if value not in choices:
        raise unknown(f"{settings.name} {field}", str(value), choices)


def check_rates(settings: RegularizerSettings) -> None:
    """Refuse ``group_rates`` that are no shares in [0, 1]."""
    rates: tuple[float, ...] = getattr(settings, "group_rates")  # noqa: B009  # not a field of the base class
    if not all(isinstance(rate, (int, float)) and 0 <= rate <= 1 for rate in rates):
        raise UserError(f"{settings.name}: group_rates must be numbers between 0 and 1, not {list(rates)}.")


def check_places(settings: RegularizerSettings) -> None:
    """Refuse a ``where`` that is a single string: its letters would be taken for names."""
    where: object = getattr(settings, "where")  # noqa: B009  # not a field of the base class
    if isinstance(where, str):
        raise UserError(
            f"{settings.name}: where must be a list of names, such as [{where}], not the text {where!r}."
        )
