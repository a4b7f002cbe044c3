"""The last files of a run: its report, and then `run.json`, which says that it is finished."""

from __future__ import annotations

import json

from batch.kinds.sections import JointReport, Report
from batch.output.locked import LockedOutput
from batch.output.record import Counts, RunFacts, Timings, run_record
from batch.report.build import build_report
from batch.report.page import write_report
from batch.report.totals import MergedStats
from schemas.errors import OutputError
from schemas.io.files import FileFacts, remedy


def publish_run(
    output: LockedOutput,
    facts: RunFacts,
    stats: MergedStats,
    outputs: dict[str, FileFacts],
    timings: Timings,
) -> None:
    """Write report.json, report.html and run.json of a corpus that is scored whole.

    stats: of all chunks. outputs: every part and quarantine file by relative path.
    Raises OutputError.
    """
    try:
        write_report(_report(facts, stats), output.folder)
    except OSError as error:
        raise OutputError(
            f"{output.folder}: the report cannot be written: {error}",
            hint=f"{remedy(error)}, then run the same command again: it resumes",
        ) from error
    record = run_record(facts, Counts.of(stats), outputs, timings)
    output.finish(json.dumps(record, indent=1, ensure_ascii=False))


def _report(facts: RunFacts, stats: MergedStats) -> Report | JointReport:
    """The report of the one task, or those of several in one."""
    reports = {task.task: build_report(stats.tasks[task.task], task) for task in facts.tasks}
    return JointReport(tasks=reports) if len(reports) > 1 else reports[facts.tasks[0].task]
