"""Contract suites and random networks for plug-in authors."""
