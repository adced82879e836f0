"""Fetches files from other people's servers over HTTP, for sources that are not on the data volume, and uploads our own.

Addresses are checked, and connections are made only to the checked ones (policy, connecting). Answers have a bounded size, and
requests wait as servers ask (client). Downloads resume and are compared with their digests (downloads), uploads are sent in
pieces (uploads), and credentials are never shown (credentials). Of our packages, this one imports only the contract.
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
