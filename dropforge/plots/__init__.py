"""Inline SVG plots: drawn without a script, readable on a telephone, in the dark and by ear.

Every text is escaped; nothing is told by colour alone. The style sheet is `dropforge.page`'s.
"""

from dropforge.plots.bars import bars, columns, share_bar
from dropforge.plots.intervals import Rate, interval, outcomes
from dropforge.plots.lines import Line, Rest, curves
from dropforge.plots.marks import Markup, beside, figure, percent
from dropforge.plots.scatter import Axis, Point, amounts, mark, scatter

__all__ = [
    "Axis",
    "Line",
    "Markup",
    "Point",
    "Rate",
    "Rest",
    "amounts",
    "bars",
    "beside",
    "columns",
    "curves",
    "figure",
    "interval",
    "mark",
    "outcomes",
    "percent",
    "scatter",
    "share_bar",
]
