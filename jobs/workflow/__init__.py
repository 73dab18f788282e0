"""Workflows: steps over rows, advanced shard by shard, on the same job table as every other job.

spec         what a workflow says, as its author wrote it
expressions  the language of `where`, `set`, `agg` and the like
check        everything that can be found wrong before a token is spent
operators    what each kind of step does to rows: pure functions
stages       which steps wait for all rows, which run shard by shard
runs         one workflow at work: its directory, its life
advancer     makes what can be made next, until nothing is left to make
"""
