"""What EMR Serverless runs: exports and datasets that are too large for one Lambda function.

The kernel is `dropforge`'s; here it is only cut into tasks, so that the same rows are kept and
removed, in the same order (docs/adr/0005-spark-same-kernel.md). `clean` and `validate` are the
entry points.

job       the session, the arguments, how an error leaves      source    a dropped file -> its rows
repeats   near-duplicates by a banding join                     table     rows in Arrow columns
"""
