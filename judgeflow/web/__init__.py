"""The live page: what a verdict database tells about its runs, in a browser, as JSON and for Prometheus; and a service for trainers.

    settings.py  what can be set              guard.py      who may look, and the headers of every answer
    desk.py      reads, remembered for a while  live.py       who is told when something has changed
    views.py     one function for each page   pages.py      the same as HTML and as JSON
    events.py    server-sent events           vitals.py     /healthz, /readyz, /metrics
    app.py       puts the routes together     server.py     runs the application until it is told to stop

    trainers.py  /v1/route and its kin       openrlhf.py   /get_reward
    service.py   one scheduler for them all   reception.py  how many at a time, and a repeated one once
    description.py  their OpenAPI document

The page only reads, in a process of its own unless it answers trainers too.  SQL is in `judgeflow.store`, figures and charts are
`judgeflow.report`'s.
"""
