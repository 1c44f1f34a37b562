"""What can be minimized: functions, and sums over rows of data."""
