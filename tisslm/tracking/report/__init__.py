"""The report of a run: one page of HTML that needs no server, and figures as files.

``write_report`` is all that the command line calls. matplotlib is imported when it draws.
"""

from tisslm.tracking.report.writing import Written, write_report

__all__ = ["Written", "write_report"]
