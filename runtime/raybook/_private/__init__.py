"""Names of Ray's private parts that users call all the same. Only what is told here is kept stable."""
