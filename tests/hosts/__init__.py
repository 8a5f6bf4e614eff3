"""Two real processes on this machine stand for two hosts."""
