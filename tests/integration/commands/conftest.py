"""Programs are run by tests, not imported for their doctests."""

collect_ignore = ["programs"]
