"""Pure parts shared by the machine-learning libraries: no clock, no file, no randomness of their own."""
