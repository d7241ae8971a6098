"""The public Python API above the Engine protocol: verbs, decorators, handles, options. Knows no socket and no process."""
