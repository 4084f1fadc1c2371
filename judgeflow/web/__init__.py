"""The live page: what a verdict database tells about its runs, in a browser, as JSON and for Prometheus.

    settings.py  what can be set              guard.py      who may look, and the headers of every answer
    desk.py      reads, remembered for a while  live.py       who is told when something has changed
    views.py     one function for each page   pages.py      the same as HTML and as JSON
    events.py    server-sent events           vitals.py     /healthz, /readyz, /metrics
    app.py       puts the routes together     server.py     runs the application until it is told to stop

The page only reads, in a process of its own.  SQL is in `judgeflow.store`, figures and charts are `judgeflow.report`'s.
"""
