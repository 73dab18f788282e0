"""Workflows: steps over rows, advanced shard by shard, on the same job table as every other job.

spec         what a workflow says, as its author wrote it
expressions  the language of `where`, `set`, `agg` and the like
check        everything that can be found wrong before a token is spent
plan         which steps need one shard, which ask models, which wait for all rows
local        what steps make of a shard by themselves
asking       what steps ask about a shard, round by round, and make of the answers
gather       what steps make of all rows
runs         one workflow at work: its directory, its life
advancer     makes what can be made next, until nothing is left to make
"""
