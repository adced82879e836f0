"""Runs in the environment ``oscar``: calls a cluster with OSCAR's own Python client, and prints the answers.

Arguments: the URL, user and password, then JSON with the calls to make: [[name, argument, ...], ...]. Prints a JSON list of
results: ``[status, text]`` of an answer, ``["error", text]`` of what the client refuses itself.
"""

from __future__ import annotations

import json
import sys

from oscar_python.client import Client

url, user, password, calls = sys.argv[1:]
client = Client({"cluster_id": "marine", "endpoint": url, "user": user, "password": password, "ssl": False})
told = []
for name, *arguments in json.loads(calls):
    try:
        answer = getattr(client, name)(*arguments)
        told.append([answer.status_code, answer.text])
    except Exception as error:
        told.append(["error", str(error)])
print(json.dumps(told))
