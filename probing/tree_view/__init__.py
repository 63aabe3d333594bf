"""One sentence as a web page: its true tree, the tree that probes read, and attention."""
