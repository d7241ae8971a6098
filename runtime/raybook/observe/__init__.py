"""What can be seen of clusters from outside: for magics, panels, the server extension and the command line."""
