"""The compiled loops: one file a loop. A loop is a function of (run, at most k steps) and is compiled once a dtype."""
