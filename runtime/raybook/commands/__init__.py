"""Commands that look: ``raybook list | summary | memory | timeline | logs``, one noun a file.

``ask`` talks to a cluster's GCS, ``rows`` turns answers into rows, ``tables`` prints them, ``state`` and ``logs`` are the
commands themselves. Nothing here changes a cluster; what starts and ends one is in ``raybook.cli``.
"""
