"""Bringing strangers' files here over HTTP, for the sources that are not on the data volume, and sending files of ours.

Addresses are judged and connected to as judged (policy, connecting), answers are bounded and requests wait as servers ask
(client), files resume and are held against their digests (downloads), ours are sent in pieces (uploads), and what logs in is
never shown (credentials). Knows the contract alone.
"""

from pelagos_pipelines.fetching.client import Answer, Client, UnexpectedStatusError
from pelagos_pipelines.fetching.credentials import Credentials, shown_url
from pelagos_pipelines.fetching.downloads import Fetched, UnchangedError, Validators, Wanted, download, validators
from pelagos_pipelines.fetching.patience import FetchError, Patience
from pelagos_pipelines.fetching.policy import Policy
from pelagos_pipelines.fetching.uploads import FileBody

__all__ = [
    "Answer",
    "Client",
    "Credentials",
    "FetchError",
    "Fetched",
    "FileBody",
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
