"""Tune together with other libraries, under the module names that Ray gives them."""
