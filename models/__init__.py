"""Reference networks, one file each, and the bundled weights."""
