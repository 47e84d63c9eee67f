"""What tables of results say: from records to summaries, comparisons, verdicts and pages.

- records: what is kept of a run, and the tables of records
- schema: what a table must be, at reading and at writing
- conditions: what a number depends on beside its run
- summaries: one row per run, one row per setting, costs
- scope: which rows of a table belong to an experiment notebook, and which are missing
- tables: tables as notebooks and pages show them
- premise: pruned networks compared with the dense net
- paired_gains: Ballot compared with each rival, and the paper's claims
- equal_accuracy: the same where both have the same accuracy
- two_halves: selection crossed with training
- groups: accuracy of each group, and the gaps of binary tasks
- report: all of it as a page beside the table

A table may list its rows in any order: no number depends on it.
"""
