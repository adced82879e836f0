"""Bringing strangers' files here over HTTP: for the sources that are not on the data volume. Knows the contract alone.

Addresses are judged and connected to as judged (policy, connecting), answers are bounded and requests wait as servers ask
(client), files resume and are held against their digests (downloads), and what logs in is never shown (credentials).
"""

from pelagos_pipelines.fetching.client import Answer, Client, UnexpectedStatusError
from pelagos_pipelines.fetching.credentials import Credentials, shown_url
from pelagos_pipelines.fetching.downloads import Fetched, UnchangedError, Validators, Wanted, download, validators
from pelagos_pipelines.fetching.patience import FetchError, Patience
from pelagos_pipelines.fetching.policy import Policy

__all__ = [
    "Answer",
    "Client",
    "Credentials",
    "FetchError",
    "Fetched",
    "Patience",
    "Policy",
    "UnchangedError",
    "UnexpectedStatusError",
    "Validators",
    "Wanted",
    "download",
    "shown_url",
    "validators",
]
