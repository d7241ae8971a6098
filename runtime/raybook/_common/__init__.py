"""Where tests written for Ray find the tools that it ships for them; defined here, used below ``_private`` as well."""
