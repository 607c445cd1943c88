"""Reports as JSON and text."""
