"""Where the state API was in older versions of Ray: it is ``raybook.util.state``."""
