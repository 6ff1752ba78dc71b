"""The runner: suites of trials, run directories, leaderboards and the command line.

Only ``regathlon.worker`` imports torch; everything else plans, lists and reports from declarations and files.
"""
