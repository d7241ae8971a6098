"""Where this module was in older versions of Ray."""

from raybook.util.state.exception import *  # noqa: F403 - the module itself, under another name.
