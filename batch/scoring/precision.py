"""Precision of a run: the fastest that the bundle has and this machine can run."""

from __future__ import annotations

from batch.engines import engine_problem
from batch.machine.device import Device
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import PRECISION_SPECS, PRECISIONS, Precision
from schemas.errors import DeviceError, UsageError, listing


def choose_precision(
    bundle: Bundle, tasks: tuple[str, ...], device: Device, requested: str
) -> Precision:
    """Turn `auto` or a precision into one that the bundle has and the device can run.

    Raises UsageError for an unknown precision or one that the bundle lacks, DeviceError for one
    that the device cannot run.
    """
    precisions = bundle.precisions(tasks)
    if requested == "auto":
        return next(
            (precision for precision in precisions if precision_problem(precision, device) is None),
            "fp32",
        )
    for precision in PRECISIONS:
        if precision == requested:
            bundle.graph_name(tasks, precision)
            problem = precision_problem(precision, device)
            if problem is not None:
                raise DeviceError(
                    f"--precision {precision} is not available: {problem}",
                    hint="use --precision auto, or repair the installation",
                )
            return precision
    raise UsageError(f"--precision {requested!r}: expected auto or one of {listing(PRECISIONS)}")


def precision_problem(precision: Precision, device: Device) -> str | None:
    """Reason why a device cannot run a precision, or None if it can."""
    only_on = PRECISION_SPECS[precision].only_on or device.kind
    if device.kind != only_on:
        if only_on == "cuda":
            return "it is for CUDA; a CPU would compute in fp32 and be no faster"
        return f"it is for a CPU, not for {device.name}"
    return (
        None
        if device.kind == "cuda"
        else engine_problem(PRECISION_SPECS[precision].engines[-1], precision)
    )
